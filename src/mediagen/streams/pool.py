"""Part buffers under one budget for the whole process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from mediagen.core.errors import Unavailable
from mediagen.streams.base import MIB

_KEEP_FROM: Final = MIB
"""Buffers of at least this size are kept for reuse: a fresh one costs a page fault every 4 KiB."""
_REQUEST_SECONDS: Final = 5.0
"""How long a request waits for a buffer before its client is told to retry."""
_RETRY_SECONDS: Final = 5.0


class BufferAllocator(Protocol):
    """Lends buffers of the pool to one class of transfers."""

    async def acquire(self, size: int, /) -> bytearray:
        """A buffer of exactly ``size`` bytes, once the budget allows it. Return it with ``release``."""

    def exchange(self, buffer: bytearray, size: int, /) -> bytearray | None:
        """Release ``buffer`` and acquire one of ``size`` bytes at once; None when there is no room for a larger one."""

    def release(self, buffer: bytearray, /) -> None:
        """Return a buffer; nothing may read or write it any more."""


@dataclass(slots=True)
class _Share:
    """The part of the budget that one class of transfers may use, in bytes, and those that wait for it."""

    limit: int
    lent: int = 0
    waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)


class _Budget:
    """Counts what is lent, serves the waiting in order, and keeps large buffers for reuse."""

    def __init__(self, total: int, reserved: int) -> None:
        self.total = total
        self.lent = 0
        self.kept = 0
        self.free: list[bytearray] = []
        self.urgent = _Share(total)
        self.ordinary = _Share(total - reserved)

    def has_room(self, share: _Share, size: int) -> bool:
        """Whether ``size`` bytes can be lent now without overtaking anyone."""
        passed_over = share.waiting or (share is self.ordinary and self.urgent.waiting)
        return not passed_over and self._fits(share, size)

    def _fits(self, share: _Share, size: int) -> bool:
        # alone, a buffer is lent whatever its size: a share smaller than one buffer must not stop all transfers
        in_share = share is self.urgent or share.lent == 0 or share.lent + size <= share.limit
        return in_share and (self.lent == 0 or self.lent + size <= self.total)

    def lend(self, share: _Share, size: int) -> None:
        self.lent += size
        share.lent += size

    def give_back(self, share: _Share, size: int) -> None:
        self.lent -= size
        share.lent -= size
        self._serve()
        if self.lent == 0:
            self.trim()

    async def wait(self, share: _Share, size: int) -> None:
        """Return once ``size`` bytes of ``share`` have been lent to the caller."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        share.waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(share, size)
            else:
                if (size, turn) in share.waiting:  # unless its turn came, and passed, after it was cancelled
                    share.waiting.remove((size, turn))
                self._serve()
            raise

    def _serve(self) -> None:
        for share in (self.urgent, self.ordinary):
            while share.waiting and self._fits(share, share.waiting[0][0]):
                size, turn = share.waiting.popleft()
                if not turn.cancelled():
                    self.lend(share, size)
                    turn.set_result(None)
            if share.waiting:
                return  # nobody overtakes

    def take(self, size: int) -> bytearray:
        """A kept buffer of that size, or a new one. Its bytes have been lent."""
        for index, buffer in enumerate(self.free):
            if len(buffer) == size:
                self.kept -= size
                return self.free.pop(index)
        while self.free and self.lent + self.kept > self.total:
            self.kept -= len(self.free.pop(0))
        return bytearray(size)

    def keep(self, buffer: bytearray) -> None:
        """Keep a returned buffer for the next transfer. Its bytes are still lent."""
        if len(buffer) >= _KEEP_FROM and self.lent + self.kept <= self.total:
            self.free.append(buffer)
            self.kept += len(buffer)

    def trim(self) -> None:
        """Return the memory of idle buffers to the system."""
        self.free.clear()
        self.kept = 0


class _ShareAllocator:
    """A ``BufferAllocator`` of one share. ``seconds``: longest wait for a buffer; None: no limit."""

    def __init__(self, budget: _Budget, share: _Share, *, seconds: float | None = None) -> None:
        self._budget = budget
        self._share = share
        self._seconds = seconds

    async def acquire(self, size: int, /) -> bytearray:
        """As ``BufferAllocator.acquire``. Raises Unavailable when it takes longer than the limit."""
        if self._budget.has_room(self._share, size):
            self._budget.lend(self._share, size)
        else:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._budget.wait(self._share, size)
            except TimeoutError:
                raise Unavailable(
                    "all memory for transfers is in use (storage.buffer_bytes)", retry_after=_RETRY_SECONDS
                ) from None
        return self._budget.take(size)

    def exchange(self, buffer: bytearray, size: int, /) -> bytearray | None:
        more = size - len(buffer)
        if more > 0 and not self._budget.has_room(self._share, more):
            return None
        self._budget.lend(self._share, size)
        self.release(buffer)
        return self._budget.take(size)

    def release(self, buffer: bytearray, /) -> None:
        self._budget.keep(buffer)
        self._budget.give_back(self._share, len(buffer))


class BufferPool(_ShareAllocator):
    """Lends buffers; never more bytes at once than ``budget``, whatever the number of transfers.

    A transfer takes one buffer at a time and only before it reads, so it never holds one while it waits for the next:
    the pool cannot deadlock. Waiters are served in order. A single buffer larger than the budget is lent alone.

    Downloads, which can wait, use the pool itself as their ``BufferAllocator``. They cannot use the last ``reserved``
    bytes, which are kept for ``requests``, whose clients wait for a response, and for ``results``, which are paid for.
    Both are served first; only a request is refused when it has waited too long.
    """

    def __init__(self, budget: int, *, reserved: int = 0) -> None:
        shared = _Budget(budget, reserved)
        super().__init__(shared, shared.ordinary)
        self.budget = budget
        self.requests: BufferAllocator = _ShareAllocator(shared, shared.urgent, seconds=_REQUEST_SECONDS)
        self.results: BufferAllocator = _ShareAllocator(shared, shared.urgent)

    @property
    def lent(self) -> int:
        """Bytes in use."""
        return self._budget.lent

    @property
    def waiting(self) -> int:
        """Transfers that wait for a buffer."""
        return len(self._budget.ordinary.waiting) + len(self._budget.urgent.waiting)

    @asynccontextmanager
    async def lend(self, size: int) -> AsyncIterator[bytearray]:
        """A buffer for the length of the block."""
        buffer = await self.acquire(size)
        try:
            yield buffer
        finally:
            self.release(buffer)
