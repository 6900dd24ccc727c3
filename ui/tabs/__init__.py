"""The tabs of the page. Each has a view, which lays out and draws, and events."""
