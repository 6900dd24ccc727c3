"""Gradient steps on one adapter: refining, training on labels, collecting LoRAs."""
