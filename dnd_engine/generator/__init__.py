"""The network that writes adapters: its settings, its heads, its folder and its card."""
