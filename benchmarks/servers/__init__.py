"""The servers of a run: mediagen itself, sources, stores and vendors on loopback."""
