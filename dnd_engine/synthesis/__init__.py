"""The engine's operations: from buckets to adapters with the loaded models."""
