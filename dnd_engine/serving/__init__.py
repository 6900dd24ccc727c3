"""Serving engines: their requirements for adapters, and publishing to them."""
