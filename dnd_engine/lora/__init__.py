"""The LoRA itself: its layout, its weights and tokens, its files and where it came from."""
