"""Where bodies are poured in tests, and the threads that help."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mediagen.streams.base import Body

THREADS: Final = ThreadPoolExecutor(3, thread_name_prefix="test-bytes")


class Gathering:
    """Fits ``streams.base.Target``: keeps every piece that it was given, as it was when it was given.

    ``full_after``: bytes that go at a time when a thread offers them. ``gate``: a thread waits for it at every offer.
    """

    def __init__(self, *, full_after: int | None = None, gate: threading.Event | None = None) -> None:
        self.pieces: list[bytes] = []
        self.offered = 0
        self.waiting = threading.Event()
        self._full_after = full_after
        self._gate = gate

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)

    async def write(self, view: memoryview, /) -> None:
        await asyncio.sleep(0)
        self.pieces.append(bytes(view))
        await asyncio.sleep(0)

    def try_write(self, view: memoryview, /, *, within: float) -> int:
        if self._gate is not None:
            self.waiting.set()
            assert self._gate.wait(20)
        gone = view if self._full_after is None else view[: self._full_after]
        self.pieces.append(bytes(gone))
        self.offered += len(gone)
        return len(gone)


async def written_by(body: Body) -> bytes:
    """All that a body gives."""
    target = Gathering()
    await body.write_to(target)
    return target.content
