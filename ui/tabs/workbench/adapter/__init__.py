"""The adapter in the bar and its checks."""
