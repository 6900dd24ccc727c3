"""Measures an adapter on a user's labelled rows, compared with a LoRA trained on them."""
