"""``mediagen health``: for containers and scripts, on the standard library alone."""

from __future__ import annotations

import sys

from mediagen.cli.client import CannotReach, Client

READY = 0
NOT_READY = 1


def health(url: str) -> int:
    """Ask the server whether it takes work; the exit status. Says why it does not."""
    try:
        readiness = Client(url).readiness()
    except CannotReach as exc:
        print(f"mediagen: {exc}", file=sys.stderr)
        return NOT_READY
    if readiness.get("status") == "ok":
        print("ready")
        return READY
    checks = readiness.get("checks")
    failed = [
        f"{name}: {check.get('detail') or 'failed'}"
        for name, check in (checks if isinstance(checks, dict) else {}).items()
        if not check["ok"]
    ]
    print(f"mediagen: not ready: {'; '.join(failed) or 'no reason given'}", file=sys.stderr)
    return NOT_READY
