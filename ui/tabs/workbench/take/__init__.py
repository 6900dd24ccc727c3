"""Keep the adapter, or take it elsewhere."""
