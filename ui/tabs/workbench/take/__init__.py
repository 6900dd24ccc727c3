"""The panel to store or export the adapter."""
