"""Who teaches an adapter beside the base: a better model behind an address, or a person."""
