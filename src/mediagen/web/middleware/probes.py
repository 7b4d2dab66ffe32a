"""Paths that monitors ask every few seconds."""

from __future__ import annotations

from typing import Final

HEALTH_PATHS: Final = ("/livez", "/readyz", "/healthz")


WATCHED_PATHS: Final = (*HEALTH_PATHS, "/metrics")
"""What monitors ask every few seconds: not worth a line in the log, and not what callers wait for."""
