"""Examines generators: scoring against references, with intervals."""
