"""Clients that others wrote, driven as they are: see README.md here."""
