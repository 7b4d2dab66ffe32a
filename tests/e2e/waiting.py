"""Waiting for what nobody tells of: files, and lines of the server's log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tests.infra.servers.mediagen import Server

_LOOK_SECONDS = 0.01


async def becomes(holds: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait until ``holds()``."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(_LOOK_SECONDS)


def logged(server: Server, event: str) -> list[dict[str, Any]]:
    """Records of this name in the server's log, over all its starts."""
    lines = [line for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [record for record in map(json.loads, lines) if record["event"] == event]
