"""Trainings and collections, watched while they run."""
