"""Part buffers under one budget for the whole process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

from mediagen.core.errors import Unavailable
from mediagen.streams.base import MIB

_KEEP_FROM: Final = MIB
"""Buffers of at least this size are kept for reuse: a fresh one costs a page fault every 4 KiB."""
_REQUEST_SECONDS: Final = 5.0
"""How long a request waits for a buffer before its client is told to come again."""
_RETRY_SECONDS: Final = 5.0


class BufferAllocator(Protocol):
    """Lends buffers of the pool to one class of transfers."""

    async def acquire(self, size: int, /) -> bytearray:
        """A buffer of exactly ``size`` bytes, once the budget allows. Give it back with ``release``."""

    def exchange(self, buffer: bytearray, size: int, /) -> bytearray | None:
        """Another buffer in the place of ``buffer``, which is given back with that; None: no room for a larger one."""

    def release(self, buffer: bytearray, /) -> None:
        """Take a buffer back; nothing may look at it any more."""


class BufferPool:
    """Lends buffers; never more bytes at once than ``budget``, whatever the number of transfers.

    A transfer takes one buffer at a time and only before it reads, so it never holds one while it waits for the next:
    the pool cannot deadlock. Waiters are served in order. A single buffer larger than the budget is lent alone.

    Downloads, which can wait, use the pool itself as their ``BufferAllocator``. They cannot use the last ``reserved``
    bytes, which are kept for ``requests``, whose clients wait for a response, and for ``results``, which are paid for.
    Both are served first; only a request is refused when it has waited too long.
    """

    def __init__(self, budget: int, *, reserved: int = 0) -> None:
        self.budget = budget
        self.reserved = reserved
        self.lent = 0
        self.requests: BufferAllocator = _Reserved(self, _REQUEST_SECONDS)
        self.results: BufferAllocator = _Reserved(self, None)
        self._lent_to_tasks = 0
        self._free: list[bytearray] = []
        self._kept = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._urgent: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """Transfers that wait for a buffer."""
        return len(self._waiting) + len(self._urgent)

    async def acquire(self, size: int, /) -> bytearray:
        if self._waiting or self._urgent or not self._fits(size):
            await self._turn(size, self._waiting, self._return_of_task)
        else:
            self._lend_to_task(size)
        return self._take(size)

    def exchange(self, buffer: bytearray, size: int, /) -> bytearray | None:
        more = size - len(buffer)
        if more > 0 and (self._waiting or self._urgent or not self._fits(more)):
            return None
        self._lend_to_task(size)
        self.release(buffer)
        return self._take(size)

    def release(self, buffer: bytearray, /) -> None:
        self._keep(buffer)
        self._return_of_task(len(buffer))

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

    async def acquire_first(self, size: int, seconds: float | None) -> bytearray:
        """As ``acquire``, before all downloads and from the whole budget. Raises Unavailable after ``seconds``."""
        if self._urgent or not self._fits_urgent(size):
            try:
                async with asyncio.timeout(seconds):
                    await self._turn(size, self._urgent, self._return)
            except TimeoutError:
                raise Unavailable(
                    "all memory for transfers is in use (storage.buffer_bytes)", retry_after=_RETRY_SECONDS
                ) from None
        else:
            self.lent += size
        return self._take(size)

    def exchange_first(self, buffer: bytearray, size: int) -> bytearray | None:
        more = size - len(buffer)
        if more > 0 and (self._urgent or not self._fits_urgent(more)):
            return None
        self.lent += size
        self.release_first(buffer)
        return self._take(size)

    def release_first(self, buffer: bytearray) -> None:
        self._keep(buffer)
        self._return(len(buffer))

    def _fits(self, size: int) -> bool:
        alone = self._lent_to_tasks == 0  # a share that is smaller than one buffer must not stop all tasks
        shared = alone or self._lent_to_tasks + size <= self.budget - self.reserved
        return shared and self._fits_urgent(size)

    def _fits_urgent(self, size: int) -> bool:
        return self.lent == 0 or self.lent + size <= self.budget

    async def _turn(self, size: int, waiting: deque[tuple[int, asyncio.Future[None]]], give_back: _GivesBack) -> None:
        """Wait in ``waiting`` until ``size`` bytes have been lent."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                give_back(size)
            else:
                if (size, turn) in waiting:  # unless its turn came, and passed, after it was cancelled
                    waiting.remove((size, turn))
                self._serve()
            raise

    def _lend_to_task(self, size: int) -> None:
        self.lent += size
        self._lent_to_tasks += size

    def _keep(self, buffer: bytearray) -> None:
        """Keep a buffer that comes back for the next transfer."""
        if len(buffer) >= _KEEP_FROM and self.lent + self._kept <= self.budget:
            self._free.append(buffer)
            self._kept += len(buffer)

    def _take(self, size: int) -> bytearray:
        for index, buffer in enumerate(self._free):
            if len(buffer) == size:
                self._kept -= size
                return self._free.pop(index)
        while self._free and self.lent + self._kept > self.budget:
            self._kept -= len(self._free.pop(0))
        return bytearray(size)

    def _return_of_task(self, size: int) -> None:
        self._lent_to_tasks -= size
        self._return(size)

    def _return(self, size: int) -> None:
        self.lent -= size
        self._serve()
        if self.lent == 0:
            self.trim()

    def _serve(self) -> None:
        while self._urgent and self._fits_urgent(self._urgent[0][0]):
            size, turn = self._urgent.popleft()
            if not turn.cancelled():
                self.lent += size
                turn.set_result(None)
        while not self._urgent and self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._lend_to_task(size)
                turn.set_result(None)


class _GivesBack(Protocol):
    def __call__(self, size: int, /) -> None: ...


class _Reserved:
    """Lends from the whole budget. ``seconds``: longest wait for a buffer; None: as long as it takes."""

    def __init__(self, pool: BufferPool, seconds: float | None) -> None:
        self._pool = pool
        self._seconds = seconds

    async def acquire(self, size: int, /) -> bytearray:
        return await self._pool.acquire_first(size, self._seconds)

    def exchange(self, buffer: bytearray, size: int, /) -> bytearray | None:
        return self._pool.exchange_first(buffer, size)

    def release(self, buffer: bytearray, /) -> None:
        self._pool.release_first(buffer)
