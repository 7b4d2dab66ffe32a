"""Straight-line recipes: one for each kind of task."""
