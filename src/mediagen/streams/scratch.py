"""The one small buffer of a transfer that keeps nothing, as large as its speed is worth."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from mediagen.streams.base import KIB
from mediagen.streams.pool import BufferAllocator

NARROW: Final = 64 * KIB
"""Bytes for a slow transfer: hundreds of those may run for hours, and their buffers must not use up the pool."""


class ScratchBuffer:
    """A buffer of the pool inside ``async with``: ``size`` bytes, or ``NARROW`` while there is no room for them.

    ``view`` must be taken anew after ``widen`` and ``narrow``: the earlier one belongs to the pool again.
    """

    def __init__(self, pool: BufferAllocator, size: int) -> None:
        self._pool = pool
        self._size = size
        self._buffer: bytearray | None = None

    async def __aenter__(self) -> Self:
        self._buffer = await self._pool.acquire(min(NARROW, self._size))
        self.widen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._buffer is not None:
            self._pool.release(self._buffer)
            self._buffer = None

    @property
    def view(self) -> memoryview:
        if self._buffer is None:
            raise RuntimeError("the buffer has been given back")
        return memoryview(self._buffer)

    def widen(self) -> bool:
        """Take a buffer of full size, if there is room; whether another one is here now."""
        return self._change(self._size)

    def narrow(self) -> bool:
        """Make do with a small buffer; whether another one is here now."""
        return self._change(min(NARROW, self._size))

    def _change(self, size: int) -> bool:
        if self._buffer is None or len(self._buffer) == size:
            return False
        other = self._pool.exchange(self._buffer, size)
        if other is None:
            return False
        self._buffer = other
        return True
