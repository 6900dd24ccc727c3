"""Cost estimates of a generator for another base, from its config alone; imports no torch."""
