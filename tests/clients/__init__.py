"""Clients that others wrote, driven as they are: see tests/infra/README.md."""
