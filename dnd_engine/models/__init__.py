"""The frozen base and the encoder: download, loading, encoding and decoding."""
