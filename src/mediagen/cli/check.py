"""``mediagen check``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from mediagen.settings import ConfigurationError, Settings, load, redacted

GOOD = 0
WARNINGS = 1
UNUSABLE = 2
SHORT_ADMIN_KEY = 24


def check(config: Path | None) -> int:
    """Print the effective configuration; the exit status."""
    try:
        settings, used = load(config, os.environ)
    except ConfigurationError as exc:
        for problem in exc.problems:
            print(f"error: {problem}", file=sys.stderr)
        return UNUSABLE
    print(json.dumps(redacted(settings), indent=2))
    print(f"configuration: {used or 'defaults and environment'}", file=sys.stderr)
    warnings = list(_warnings(settings))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return WARNINGS if warnings else GOOD


def _warnings(settings: Settings) -> Iterator[str]:
    if not settings.auth.needs_keys(settings.server):
        if not settings.server.loopback:
            yield "auth.required: other machines can reach the server, and no keys are required"
        elif settings.server.public_url or settings.server.trusted_proxies:
            yield "auth.required: no keys are required, so whoever reaches the proxy in front can use the server"
    admin_key = settings.auth.admin_key.get_secret_value()
    if 0 < len(admin_key) < SHORT_ADMIN_KEY:
        yield f"auth.admin_key: is short; {SHORT_ADMIN_KEY} or more random characters cannot be guessed"
    nearest = settings.data_dir.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        yield f"data_dir: {nearest} cannot be written"
    if settings.storage.backend == "s3" and not settings.storage.s3.bucket:
        yield "storage.s3.bucket: is empty; the server will not start"
    if "*" in settings.server.cors_origins:
        yield "server.cors_origins: every page may use the server"
