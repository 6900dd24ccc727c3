"""The shape of one decoder stage, which settings and heads share."""

Stage = tuple[int, int, int]
"""(channels, height, width) of one decoder stage: at first (prompts, length, width of the
encoder), at last (weight tokens, rows, columns)."""
