"""The frozen base and the encoder: fetched, loaded, read as conditions, decoded."""
