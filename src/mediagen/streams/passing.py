"""What passes from a source into a sink through one small buffer.

A store that may want a part again needs it kept until it is acknowledged. A file does not: what it was given it has. So
for a sink that pours once, one thread receives, counts and writes, piece by piece, as the range lane does; nothing is
handed from thread to thread, and a thousand slow sources hold a few kilobytes each instead of a part.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Final

from mediagen.streams.aside import PAUSE, Aside, Stretch
from mediagen.streams.base import KIB, MIB, Source, Takes, Target, take_from
from mediagen.streams.digest import Sha256Passing, crc32
from mediagen.streams.meter import Meter

PIECE: Final = 256 * KIB
"""Bytes of the buffer: they are counted and written while they are in the processor's cache."""
_QUICK: Final = 128 * KIB
"""A source that gives so much at a time is quick enough for a thread."""
_INLINE: Final = 64 * KIB
_TELL: Final = MIB


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
        quick = False
        while self._size != self._source.size:
            before = self._size
            if quick:
                left = await self._aside.run(self._stretch, target)
                self._aside.moved(self._size - before)
            else:
                count = await self._source.read_into(self._scratch)
                if not count:
                    break
                left = self._took(count)
                await self._hash(left)
            if left:
                await target.put(left)
            quick = self._takes and self._aside.pays and self._size - before >= _QUICK
            self._meter.look()
            self._tell(_TELL)
        self._tell(1)

    async def _hash(self, view: memoryview) -> None:
        if len(view) > _INLINE and self._sha256.alive:
            await self._aside.run(self._sha256.update, view)
        else:
            self._sha256.update(view)

    def _stretch(self, target: Target) -> memoryview:
        """Move bytes until one side falls behind; gives those that the target did not take. Runs in a thread."""
        stretch, all_of_it = Stretch(), len(self._scratch)
        while self._size != self._source.size:
            count = take_from(self._source, self._scratch, within=PAUSE)
            view = self._took(count)
            self._sha256.update(view, plenty=2 * count > all_of_it)
            gone = target.offer(view, within=PAUSE)
            if gone < count:
                return view[gone:]
            if not stretch.goes_on(count):
                break
        return self._scratch[:0]

    def _took(self, count: int) -> memoryview:
        view = self._scratch[:count]
        self.crc32 = crc32(view, self.crc32)
        self._size += count
        self._meter.count(count)
        return view

    def _tell(self, at_least: int) -> None:
        """Say what the sink has, unless that is less than ``at_least`` bytes."""
        if self._size - self._stored >= at_least:
            self._meter.store(self._size - self._stored)
            self._stored = self._size
