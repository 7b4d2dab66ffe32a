"""Compositions: films from a script."""
