"""Pipelines: one for each kind of task."""
