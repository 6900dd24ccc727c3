"""The twin chat."""
