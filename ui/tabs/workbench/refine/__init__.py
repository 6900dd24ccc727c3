"""The offer to refine."""
