"""Inference on items, metrics and intervals. Knows no `Engine`."""
