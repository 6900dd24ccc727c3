"""Checks of an adapter that need no labels."""
