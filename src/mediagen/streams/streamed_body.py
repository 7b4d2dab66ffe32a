"""What passes from a source into a sink through one small buffer.

A store that may want a part again needs it kept until it is acknowledged. A file does not: what it was given it has. So
for a sink that pours once, one thread receives, counts and writes, piece by piece, as the range lane does; nothing is
handed from thread to thread, and a thousand slow sources hold half a MiB each instead of parts.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from typing import Final

from mediagen.streams.base import KIB, MIB, Source, Target, can_try_read, try_read_from
from mediagen.streams.digest import InlineSha256, crc32
from mediagen.streams.meter import Meter
from mediagen.streams.scratch import NARROW, ScratchBuffer
from mediagen.streams.serial_executor import PAUSE, Burst, SerialExecutor

BUFFER: Final = 512 * KIB
"""Bytes of the buffer. What comes slowly is gathered to half of it: each write costs a way to a thread and back."""
GATHERING: Final = 2 * MIB
"""The same where bytes are made in the event loop (decoded, for one): a half of it is written by a thread meanwhile.
Each time that the two meet costs them both."""
_PIECE: Final = 256 * KIB
"""Bytes that a thread moves at a time: they are counted and written while they are in the processor's cache."""
_QUICK: Final = 128 * KIB
"""A source that gives so much at a time is quick enough for a thread."""
_PLENTY: Final = 200 * MIB
"""Bytes a second from which a source is as quick as the digest: hashing would take processors from moving."""
_SLOW_SECONDS: Final = 1.0
"""A half that takes longer to fill belongs to a slow source, which gets by with a small buffer."""
_WIDEN_SECONDS: Final = 0.1
"""A small buffer that fills quicker than this is worth a large one."""
_TELL: Final = MIB
_BURST: Final = 8 * MIB
"""Bytes that a thread moves before it is looked after."""


class StreamedBody:
    """A body whose bytes come from a source while it is poured, once. Its length is known when it has been.

    Args:
        scratch: its only buffer, the caller's again when ``write_to`` has ended, however it ended. A slow source leaves
            most of it to others.
        sha256: gets all bytes, for as long as it wants them.
    """

    def __init__(
        self, source: Source, scratch: ScratchBuffer, *, meter: Meter, threads: Executor, sha256: InlineSha256
    ) -> None:
        self._source = source
        self._scratch = scratch
        self._meter = meter
        self._sha256 = sha256
        self._executor = SerialExecutor(threads)
        self._writer = SerialExecutor(threads)
        self._writing: asyncio.Future[memoryview] | None = None
        self._written_to = 0
        self._halves = _halved(scratch.view)
        self._can_try_read = can_try_read(source)
        self._begun = False
        self._quick = False
        self._size = 0
        self._gone = 0
        self._stored = 0
        self.crc32 = 0

    def __len__(self) -> int:
        return self._size

    def read_ahead(self, start: int, end: int, /) -> bytes:
        raise RuntimeError("what passes cannot be read ahead")

    async def write_to(self, target: Target, /) -> None:
        if self._begun:
            raise RuntimeError("what passes comes once")
        self._begun = True
        try:
            await self._until_poured(target)
        finally:
            await self._writer.ended()  # it uses the scratch, which is the caller's again after this
            if self._writing is not None:
                self._writing.exception()  # there is another reason already

    async def _until_poured(self, target: Target) -> None:
        more = True
        while more and self._size != self._source.size:
            if self._quick and self._can_try_read and self._executor.pays:
                await self._written(target)
                if self._scratch.widen():
                    self._halves = _halved(self._scratch.view)
                before = self._size
                left = await self._executor.run(self._move_burst, target)
                self._executor.moved(self._size - before)
                self._quick = self._size - before >= _QUICK
                if left:
                    await target.write(left)
                self._gone = self._size
            else:
                more = await self._gather(target)
            self._meter.look()
            self._tell(_TELL)
        await self._written(target)
        self._tell(1)

    async def _gather(self, target: Target) -> bool:
        """Fill one half, waiting for what comes, while the other one is written. Whether there may be more."""
        half = self._halves[0]
        if half is self._halves[1]:  # too little to be halved
            await self._written(target)
        filled = count = 0
        began = time.monotonic()
        while filled < len(half) and self._size != self._source.size:
            count = await self._source.read_into(half[filled:])
            if not count:
                break
            self._took(half[filled : filled + count])
            filled += count
            self._quick = count >= min(_QUICK, len(half))
            self._meter.look()
            if time.monotonic() - began > _SLOW_SECONDS:
                break  # what has come is written now, and the rest of the buffer is left to others
        elapsed = time.monotonic() - began
        plenty = filled >= elapsed * _PLENTY
        await self._written(target)
        if filled:
            self._writing = self._writer.begin(self._write, half[:filled], target, plenty)
            self._written_to = self._size
            self._halves = self._halves[::-1]
        await self._fit(target, len(half), elapsed)
        return count > 0

    async def _fit(self, target: Target, room: int, elapsed: float) -> None:
        """Make the buffer as large as the source is quick: filling ``room`` bytes of it took ``elapsed`` seconds."""
        if elapsed > _SLOW_SECONDS:
            if len(self._scratch.view) > NARROW:
                await self._written(target)
                if self._scratch.narrow():
                    self._halves = _halved(self._scratch.view)
        elif room <= NARROW and elapsed < _WIDEN_SECONDS and self._size != self._source.size:
            await self._written(target)
            if self._scratch.widen():
                self._halves = _halved(self._scratch.view)

    def _write(self, view: memoryview, target: Target, plenty: bool) -> memoryview:
        """Hash and offer; gives what the target did not take. Runs in a thread."""
        self._sha256.update(view, plenty=plenty)
        return view[target.try_write(view, within=PAUSE) :]

    async def _written(self, target: Target) -> None:
        """Wait until all that was gathered before is written."""
        if self._writing is None:
            return
        await self._writer.ended()
        writing, self._writing = self._writing, None
        if left := writing.result():
            await target.write(left)
        self._gone = self._written_to

    def _move_burst(self, target: Target) -> memoryview:
        """Move bytes until one side falls behind; gives those that the target did not take. Runs in a thread."""
        burst, room, end = Burst(), self._scratch.view[:_PIECE], self._size + _BURST
        while self._size != self._source.size and self._size < end:
            view = room[: try_read_from(self._source, room, within=PAUSE)]
            self._took(view)
            self._sha256.update(view, plenty=2 * len(view) > len(room))
            gone = target.try_write(view, within=PAUSE)
            if gone < len(view):
                return view[gone:]
            if not burst.goes_on(len(view)):
                break
        return room[:0]

    def _took(self, view: memoryview) -> None:
        self.crc32 = crc32(view, self.crc32)
        self._size += len(view)
        self._meter.count(len(view))

    def _tell(self, at_least: int) -> None:
        """Say what the sink has, unless that is less than ``at_least`` bytes."""
        if self._gone - self._stored >= at_least:
            self._meter.store(self._gone - self._stored)
            self._stored = self._gone


def _halved(whole: memoryview) -> tuple[memoryview, memoryview]:
    """Two halves, one to be filled while the other is written; the same twice where they would be too small."""
    middle = len(whole) // 2
    return (whole[middle:], whole[:middle]) if len(whole) >= BUFFER else (whole, whole)
