"""The library: adapters kept on disk."""
