"""Saves bytes in the store: their placement, the space for them, their row."""
