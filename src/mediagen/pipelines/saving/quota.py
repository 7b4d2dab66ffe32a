"""How many bytes the store may hold, files and what is on its way to become one together.

    stored (rows of files, summed by the database) + reserved (transfers under way) + wanted ≤ limit

A transfer reserves what its source announces, or as much as has come, a piece ahead. It keeps that until its file is a
row, or gone: for a moment a file can count twice, never not at all. What is reserved is in memory alone: after a crash
the sum of the rows is the truth, and whoever goes on reserves anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from mediagen.core.errors import StorageFull
from mediagen.pipelines.saving.wait_for_space import until_space
from mediagen.streams.base import MIB, Source, try_read_from

STEP: Final = 8 * MIB
"""Bytes that a transfer of unknown size reserves at a time."""


async def _nothing() -> int:
    return 0


class Quota:
    """The one owner of ``limits.store_bytes``. ``stored`` gives the bytes of all rows; ``limit`` 0: no limit."""

    def __init__(self, limit: int = 0, stored: Callable[[], Awaitable[int]] = _nothing) -> None:
        self.limit = limit
        self.reserved = 0
        self._stored = stored
        self._turn = asyncio.Lock()

    async def stored(self) -> int:
        """Bytes of all files."""
        return await self._stored()

    async def reserve(self, size: int | None) -> Reservation:
        """Room for a file of ``size`` bytes; None: it is not known. Release it when the file is a row, or gone.

        Raises:
            StorageFull: there is no room for it, or for a single byte.
        """
        reservation = Reservation(self)
        if self.limit:
            await self.grow(reservation, size or 0, STEP if size is None else 0)
        return reservation

    async def grow(self, reservation: Reservation, least: int, more: int) -> None:
        """Give a reservation ``least`` bytes, and as many of ``more`` as there are, beyond what it has.

        Raises:
            StorageFull
        """
        async with self._turn:
            left = self.limit - self.reserved - await self._stored()
            if left < max(least, min(1, more)):
                raise StorageFull(
                    f"the store may hold {self.limit} bytes (limits.store_bytes), {max(0, left)} are left",
                    limit=self.limit,
                    wanted=least,
                )
            granted = min(left, least + more)
            self.reserved += granted
            reservation.size += granted


class Reservation:
    """Bytes of the quota that belong to one transfer."""

    __slots__ = ("_quota", "_released", "size")

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._released = False
        self.size = 0

    def release(self) -> None:
        """Give the bytes back; again: nothing happens."""
        if not self._released:
            self._released = True
            self._quota.reserved -= self.size

    def around(self, source: Source, *, waits: bool = False) -> Source:
        """The source, reserving as it goes when its size is not known and there is a limit; ``waits`` for room."""
        if source.size is not None or not self._quota.limit:
            return source
        return _Reserving(source, self._quota, self, waits=waits)


class _Reserving:
    """As soon as more has come than there is room for, raises StorageFull, or waits."""

    size: int | None = None

    def __init__(self, source: Source, quota: Quota, reservation: Reservation, *, waits: bool) -> None:
        self._source = source
        self._quota = quota
        self._reservation = reservation
        self._waits = waits
        self._came = 0

    async def read_into(self, buffer: memoryview, /) -> int:
        count = await self._source.read_into(buffer)
        self._came += count
        beyond = self._came - self._reservation.size
        if beyond > 0 and self._waits:
            await until_space(lambda: self._quota.grow(self._reservation, beyond, STEP))
        elif beyond > 0:
            await self._quota.grow(self._reservation, beyond, STEP)
        return count

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        """What a thread may take without asking: only what is reserved already."""
        room = self._reservation.size - self._came
        count = try_read_from(self._source, buffer[:room], within=within) if room > 0 else 0
        self._came += count
        return count
