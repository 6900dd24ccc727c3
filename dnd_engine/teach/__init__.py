"""Teachers other than the base: a better model at an endpoint, or a person."""
