"""Part bodies, and how an object is cut into parts."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

from mediagen.streams.base import KIB, MIB, RangeReader, Target, Watch
from mediagen.streams.digest import crc32
from mediagen.streams.meter import Meter
from mediagen.streams.serial_executor import PAUSE, Burst, SerialExecutor

MIN_PART: Final = 5 * MIB
MAX_PARTS: Final = 10_000
MAX_OBJECT: Final = 5 * 1024 * 1024 * MIB
"""Limits of S3 ("Amazon S3 multipart upload limits", user guide): 5 MiB a part but the last, 10,000 parts, 5 TiB."""


def part_size_for(size: int | None, preferred: int) -> int:
    """The smallest part length in bytes, at least ``preferred``, that fits ``size`` in 10,000 parts.

    Whole MiB, and constant for the upload. With ``size`` None the preferred length stays: 8 MiB reach 78 GiB.
    """
    preferred = max(preferred, MIN_PART)
    if size is None:
        return preferred
    needed = -(-size // MAX_PARTS)
    return max(preferred, -(-needed // MIB) * MIB)


def range_part_size_for(size: int, preferred: int) -> int:
    """Part length for parts that need no buffer: larger ones save requests and cost nothing but finer resume.

    A thirty-second of the object in whole MiB, from ``preferred`` to 64 MiB, more only when 10,000 do not suffice.
    """
    wanted = min(64 * MIB, -(-size // (32 * MIB)) * MIB)
    return part_size_for(size, max(preferred, wanted))


_BURST: Final = 8 * MIB
"""Bytes that a thread moves before it is looked after."""
_LAST: Final = 64 * KIB
"""Bytes at the end of a part that the loop sends itself: the store answers as soon as it has them, and the loop can see
to it that not all parts end in the same turn."""


class _ReplayableBody:
    """What both bodies have in common: one ``write_to`` at a time, also when those who asked for it have gone."""

    def __init__(self, threads: Executor | None) -> None:
        self._executor = None if threads is None else SerialExecutor(threads)
        self._writes = 0

    async def stop(self) -> None:
        """End what may still pour, although whoever asked for it has gone; buffer and reader are the caller's again."""
        self._writes += 1
        if self._executor is not None:
            await self._executor.ended()

    async def _begin(self) -> int:
        await self.stop()
        return self._writes

    def _check(self, mine: int) -> None:
        if self._writes != mine:
            raise RuntimeError("the part has been asked for anew, or given up")


class BufferBody(_ReplayableBody):
    """A part that lies in a buffer. ``threads`` send it; without them it goes piece by piece, the loop in between.

    ``crc``: of ``view``, where it is known already.
    """

    def __init__(
        self,
        view: memoryview,
        crc: int | None = None,
        *,
        chunk_size: int = 512 * KIB,
        threads: Executor | None = None,
    ) -> None:
        super().__init__(threads)
        self._view = view
        self._chunk_size = chunk_size
        self.crc32 = crc32(view) if crc is None else crc

    def __len__(self) -> int:
        return len(self._view)

    @property
    def view(self) -> memoryview:
        return self._view

    def read_ahead(self, start: int, end: int, /) -> bytes:
        return bytes(self._view[start:end])

    async def write_to(self, target: Target, /) -> None:
        mine = await self._begin()
        sent = 0
        while sent < len(self._view):
            piece = self._view[sent : sent + self._chunk_size]
            await target.write(piece)
            sent += len(piece)
            if self._executor is not None and self._executor.pays and sent < len(self._view) - _LAST:
                before, sent = sent, await self._executor.run(self._move_burst, target, sent, mine)
                self._executor.moved(sent - before)
            else:
                # a socket that takes everything never makes the writer wait: give the other tasks their turn
                await asyncio.sleep(0)
            self._check(mine)

    def _move_burst(self, target: Target, sent: int, mine: int) -> int:
        """Send from ``sent`` on while the target is quick; gives where it stands then. Runs in a thread."""
        end, burst = len(self._view) - _LAST, Burst()
        while sent < end and self._writes == mine:
            gone = target.try_write(self._view[sent : min(end, sent + self._chunk_size)], within=PAUSE)
            sent += gone
            if not burst.goes_on(gone):
                break
        return sent


class RangeBody(_ReplayableBody):
    """A part that *is* the download of its range: no part buffer, and a retry of the part reads the range again.

    Nothing may read it ahead, so the store's request must leave its payload unsigned and unhashed. ``crc32`` is made on
    the way and holds once a ``write_to`` has come to its end.

    While the source is as fast as we are, a thread moves the bytes from the one side to the other: copying them in and
    out of the kernel and counting their CRC need neither the event loop nor Python's lock. Whoever has to be waited
    for is waited for by the loop. ``watch`` sees the bytes as they pass, and where in the resource they stand.
    """

    def __init__(
        self,
        reader: RangeReader,
        start: int,
        length: int,
        *,
        meter: Meter,
        threads: Executor | None = None,
        chunk_size: int = 256 * KIB,
        scratch: bytearray | None = None,
        watch: Watch | None = None,
    ) -> None:
        super().__init__(threads)
        self._watch = watch
        self._reader = reader
        self._start = start
        self._length = length
        self._meter = meter
        self._scratch = memoryview(scratch if scratch is not None else bytearray(chunk_size))
        self._received = 0
        self._crc32 = 0

    def __len__(self) -> int:
        return self._length

    @property
    def crc32(self) -> int:
        if self._received != self._length:
            raise RuntimeError("the part has not been read to its end")
        return self._crc32

    def read_ahead(self, start: int, end: int, /) -> bytes:
        raise RuntimeError("a streamed part cannot be read ahead: payload signing and automatic checksums must be off")

    def forget(self) -> None:
        """Take back what the last ``write_to`` counted: the part will come again, or not at all."""
        if self._received:
            self._meter.receive(-self._received)
            self._received = 0

    async def write_to(self, target: Target, /) -> None:
        mine = await self._begin()
        self.forget()
        self._crc32 = 0
        await self._reader.seek(self._start)
        while self._received < self._length:
            count = await self._reader.read_into(self._room())
            self._check(mine)
            view = self._took(count)
            self._meter.look()
            await target.write(view)
            self._check(mine)
            quick = 2 * count >= len(self._scratch) and self._received < self._length - _LAST
            if self._executor is not None and self._executor.pays and quick:
                before = self._received
                left = await self._executor.run(self._move_burst, target, mine)
                self._check(mine)
                # bytes that the target took: behind a proxy it takes none here, and the way to a thread costs
                self._executor.moved(self._received - before - len(left))
                self._meter.look()
                if left:
                    await target.write(left)

    def _move_burst(self, target: Target, mine: int) -> memoryview:
        """Move bytes until one side falls behind; gives those that the target did not take. Runs in a thread."""
        end = min(self._length - _LAST, self._received + _BURST)
        burst = Burst()
        while self._received < end and self._writes == mine:
            count = self._reader.try_read(self._scratch[: end - self._received], within=PAUSE)
            view = self._took(count)
            gone = target.try_write(view, within=PAUSE)
            if gone < count:
                return view[gone:]
            if not burst.goes_on(count):
                break
        return self._scratch[:0]

    def _room(self) -> memoryview:
        return self._scratch[: self._length - self._received]

    def _took(self, count: int) -> memoryview:
        view = self._scratch[:count]
        self._crc32 = crc32(view, self._crc32)
        if self._watch is not None:
            self._watch(self._start + self._received, view)
        self._received += count
        self._meter.count(count)
        return view
