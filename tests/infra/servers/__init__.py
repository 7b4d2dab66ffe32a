"""Servers on loopback that tests start."""
