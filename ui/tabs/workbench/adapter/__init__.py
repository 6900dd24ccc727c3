"""The adapter in the bar, and what is known of it."""
