"""Part buffers under one budget for the whole process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mediagen.streams.base import MIB

_KEEP_FROM: Final = MIB
"""Buffers of at least this size are kept for reuse: a fresh one costs a page fault every 4 KiB."""


class BufferPool:
    """Lends buffers; never more bytes at once than ``budget``, whatever the number of transfers.

    A transfer takes one buffer at a time and only before it reads, so it never holds one while it waits for the next:
    the pool cannot deadlock. Waiters are served in order. A single buffer larger than the budget is lent alone.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.lent = 0
        self._free: list[bytearray] = []
        self._kept = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size: int) -> bytearray:
        """A buffer of exactly ``size`` bytes; waits while the budget is used up. Give it back with ``release``."""
        if self._waiting or not self._fits(size):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._return(size)
                else:
                    if (size, turn) in self._waiting:  # unless its turn came, and passed, after it was cancelled
                        self._waiting.remove((size, turn))
                    self._serve()
                raise
        else:
            self.lent += size
        return self._take(size)

    def release(self, buffer: bytearray) -> None:
        """Take a buffer back; nothing may look at it any more."""
        size = len(buffer)
        if size >= _KEEP_FROM and self.lent + self._kept <= self.budget:
            self._free.append(buffer)
            self._kept += size
        self._return(size)

    @asynccontextmanager
    async def lend(self, size: int) -> AsyncIterator[bytearray]:
        """A buffer for the length of the block."""
        buffer = await self.acquire(size)
        try:
            yield buffer
        finally:
            self.release(buffer)

    def trim(self) -> None:
        """Give the memory of idle buffers back to the system."""
        self._free.clear()
        self._kept = 0

    def _fits(self, size: int) -> bool:
        return self.lent == 0 or self.lent + size <= self.budget

    def _take(self, size: int) -> bytearray:
        for index, buffer in enumerate(self._free):
            if len(buffer) == size:
                self._kept -= size
                return self._free.pop(index)
        while self._free and self.lent + self._kept > self.budget:
            self._kept -= len(self._free.pop(0))
        return bytearray(size)

    def _return(self, size: int) -> None:
        self.lent -= size
        self._serve()
        if self.lent == 0:
            self.trim()

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self.lent += size
                turn.set_result(None)
