"""LoRA adapters: layout, weights and tokens, files and provenance."""
