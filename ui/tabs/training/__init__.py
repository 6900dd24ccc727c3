"""The Training tab: follows training runs and collections."""
