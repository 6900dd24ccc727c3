"""The network that generates adapters: its settings, heads, folder and card."""
