"""Asks, answers and scores: inference on items, metrics, intervals. Knows no `Engine`."""
