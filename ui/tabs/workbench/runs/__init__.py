"""Runs that make adapters: synthesis, imprint, and their common parts."""
