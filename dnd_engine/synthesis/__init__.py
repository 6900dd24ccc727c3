"""From buckets to adapters: what the engine does with the models it has loaded."""
