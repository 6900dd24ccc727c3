"""What an adapter is worth on a user's own labelled rows, beside a LoRA trained on them."""
