"""``mediagen health``: for containers and scripts."""

from __future__ import annotations

import sys
from pathlib import Path

from mediagen.cli.address import server_address
from mediagen.cli.client import CannotReach, Client

READY = 0
NOT_READY = 1


def health(url: str | None, config: Path | None) -> int:
    """Ask the server whether it takes work; the exit status. Says why it does not.

    Without ``url`` the server is the one of the configuration: where it says that it listens, if it runs.
    """
    try:
        address = server_address(url, config)
        readiness = Client(address).readiness()
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
