"""The panel that teaches an adapter."""
