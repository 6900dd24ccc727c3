"""The tabs of the page: each has a view, which lays out and draws, and events."""
