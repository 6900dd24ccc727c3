"""The canvas: prompt files in buckets."""
