"""The report card of the generator."""
