"""Bytes in motion: sources, part bodies, sinks, transforms and the one pump between them."""
