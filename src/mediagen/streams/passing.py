"""What passes from a source into a sink through one small buffer.

A store that may want a part again needs it kept until it is acknowledged. A file does not: what it was given it has. So
for a sink that pours once, one thread receives, counts and writes, piece by piece, as the range lane does; nothing is
handed from thread to thread, and a thousand slow sources hold half a MiB each instead of parts.
"""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial
from typing import Final

from mediagen.streams.aside import PAUSE, Aside, Stretch
from mediagen.streams.base import KIB, MIB, Source, Takes, Target, take_from
from mediagen.streams.digest import Sha256Passing, crc32
from mediagen.streams.meter import Meter

BUFFER: Final = 512 * KIB
"""Bytes of the buffer. What comes slowly is gathered to half of it: each write costs a way to a thread and back."""
_PIECE: Final = 256 * KIB
"""Bytes that a thread moves at a time: they are counted and written while they are in the processor's cache."""
_QUICK: Final = 128 * KIB
"""A source that gives so much at a time is quick enough for a thread."""
_INLINE: Final = 64 * KIB
_TELL: Final = MIB
_STRETCH: Final = 8 * MIB
"""Bytes that a thread moves before it is looked after."""


class PassingBody:
    """A body whose bytes come from a source while it is poured, once. Its length is known when it has been.

    Args:
        scratch: its only buffer, the caller's again when ``pour`` has ended, however it ended.
        sha256: gets all bytes, for as long as it wants them.
    """

    def __init__(
        self, source: Source, scratch: memoryview, *, meter: Meter, threads: Executor, sha256: Sha256Passing
    ) -> None:
        self._source = source
        self._scratch = scratch
        self._meter = meter
        self._sha256 = sha256
        self._aside = Aside(threads)
        self._takes = isinstance(source, Takes)
        self._begun = False
        self._quick = False
        self._size = 0
        self._stored = 0
        self.crc32 = 0

    def __len__(self) -> int:
        return self._size

    def read_ahead(self, start: int, end: int, /) -> bytes:
        raise RuntimeError("what passes cannot be read ahead")

    async def pour(self, target: Target, /) -> None:
        if self._begun:
            raise RuntimeError("what passes comes once")
        self._begun = True
        more = True
        while more and self._size != self._source.size:
            if self._quick and self._takes and self._aside.pays:
                before = self._size
                left = await self._aside.run(self._stretch, target)
                self._aside.moved(self._size - before)
                self._quick = self._size - before >= _QUICK
                if left:
                    await target.put(left)
            else:
                more = await self._gather(target)
            self._meter.look()
            self._tell(_TELL)
        self._tell(1)

    async def _gather(self, target: Target) -> bool:
        """Move what comes next, waiting for it. Whether there may be more."""
        filled = count = 0
        while 2 * filled < len(self._scratch) and self._size != self._source.size:
            count = await self._source.read_into(self._scratch[filled:])
            if not count:
                break
            self._took(self._scratch[filled : filled + count])
            filled += count
            self._quick = count >= _QUICK
            self._meter.look()
        if filled:
            view = self._scratch[:filled]
            hashing = partial(self._sha256.update, view, plenty=self._quick)
            if filled > _INLINE and self._sha256.alive:
                await self._aside.run(hashing)
            else:
                hashing()
            await target.put(view)
        return count > 0

    def _stretch(self, target: Target) -> memoryview:
        """Move bytes until one side falls behind; gives those that the target did not take. Runs in a thread."""
        stretch, room, end = Stretch(), self._scratch[:_PIECE], self._size + _STRETCH
        while self._size != self._source.size and self._size < end:
            view = room[: take_from(self._source, room, within=PAUSE)]
            self._took(view)
            self._sha256.update(view, plenty=2 * len(view) > len(room))
            gone = target.offer(view, within=PAUSE)
            if gone < len(view):
                return view[gone:]
            if not stretch.goes_on(len(view)):
                break
        return room[:0]

    def _took(self, view: memoryview) -> None:
        self.crc32 = crc32(view, self.crc32)
        self._size += len(view)
        self._meter.count(len(view))

    def _tell(self, at_least: int) -> None:
        """Say what the sink has, unless that is less than ``at_least`` bytes."""
        if self._size - self._stored >= at_least:
            self._meter.store(self._size - self._stored)
            self._stored = self._size
