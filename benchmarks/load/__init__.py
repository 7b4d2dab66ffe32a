"""Clients that put load on a server."""
