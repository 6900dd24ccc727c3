"""Teachers other than the base: a better model at an endpoint or on this computer, or a person."""
