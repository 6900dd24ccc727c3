"""Many inputs at once: a table of what both models answer."""
