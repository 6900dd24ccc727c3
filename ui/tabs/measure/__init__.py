"""Measure: an adapter on labelled rows."""
