"""The Measure tab: an adapter on labelled rows."""
