"""Reads files into prompts and groups them into weighted buckets; imports no model, no torch."""
