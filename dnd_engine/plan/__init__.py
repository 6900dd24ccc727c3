"""What a generator for another base would cost, from the base's config alone; loads no torch."""
