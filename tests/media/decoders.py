"""The processes that decode images, as /proc shows them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from mediagen.media import decoder_process
from tests.infra.process import descendants


def decoders(parent: int | None = None) -> list[int]:
    """Processes that decode, wait to, or fork those that do; of ``parent``, or of ours."""
    return [pid for pid in descendants(parent or os.getpid()) if decoder_process.__file__ in said_by(pid, "cmdline")]


def decoding(parent: int | None = None) -> list[int]:
    """Those of them that have been given an image."""
    return [pid for pid in decoders(parent) if said_by(pid, "comm") == "decoding\n"]


def said_by(pid: int, name: str) -> str:
    """A file of the process in /proc; nothing once it has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


async def becomes(holds: Callable[[], bool], what: str) -> None:
    """Wait until ``holds()``, looked at in a thread."""
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.02)
    assert await asyncio.to_thread(holds), what


async def stopped(count: int) -> list[int]:
    """The children that have an image, once there are so many, held at where they are."""
    await becomes(lambda: len(decoding()) == count, f"{count} are decoded")
    found = await asyncio.to_thread(decoding)
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    return found
