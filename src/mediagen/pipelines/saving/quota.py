"""How many bytes the store may hold, in files and in transfers under way.

    stored (rows of files, summed by the database) + reserved (transfers under way) + wanted ≤ limit

A transfer reserves the size that its source announces; otherwise it reserves as bytes arrive, a step ahead. It keeps
the reservation until its file is a row or gone: for a moment a file may count twice, but never not at all. Reservations
are in memory only: after a crash the sum of the rows is right, and resumed transfers reserve anew.
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
    """Enforces ``limits.store_bytes``. ``stored`` gives the bytes of all rows; ``limit`` 0: no limit."""

    def __init__(self, limit: int = 0, stored: Callable[[], Awaitable[int]] = _nothing) -> None:
        self.limit = limit
        self.reserved = 0
        self._stored = stored
        self._turn = asyncio.Lock()

    async def stored(self) -> int:
        """Bytes of all files."""
        return await self._stored()

    async def reserve(self, size: int | None) -> Reservation:
        """Reserve space for ``size`` bytes; None: unknown. Release it when the file is a row, or gone.

        Raises:
            StorageFull: there is not enough space, or of unknown size not for a single byte.
        """
        reservation = Reservation(self)
        if self.limit:
            await self.grow(reservation, size or 0, STEP if size is None else 0)
        return reservation

    async def grow(self, reservation: Reservation, least: int, more: int) -> None:
        """Extend a reservation by ``least`` bytes, and by as many of ``more`` as are left.

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
        """Give the bytes back. May be called again."""
        if not self._released:
            self._released = True
            self._quota.reserved -= self.size

    def around(self, source: Source, *, waits: bool = False) -> Source:
        """The source; of unknown size it reserves as it is read. ``waits``: wait for space instead of failing."""
        if source.size is not None or not self._quota.limit:
            return source
        return _Reserving(source, self._quota, self, waits=waits)


class _Reserving:
    """Extends the reservation as bytes arrive; without space it raises StorageFull, or waits."""

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
        """Read without waiting, within what is reserved already."""
        room = self._reservation.size - self._came
        count = try_read_from(self._source, buffer[:room], within=within) if room > 0 else 0
        self._came += count
        return count
