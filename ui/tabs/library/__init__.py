"""The library: adapters stored on disk."""
