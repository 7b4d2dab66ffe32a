"""The buffer lane: any source, read once and in order (``transfer``)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Final

from mediagen.streams.base import KIB, Sink, Source, StoredPart, can_try_read, try_read_from
from mediagen.streams.digest import BackgroundSha256, InlineSha256, Sha256Mode, combine_crc32, crc32
from mediagen.streams.meter import Meter
from mediagen.streams.parts import BufferBody
from mediagen.streams.pool import BufferAllocator
from mediagen.streams.scratch import ScratchBuffer
from mediagen.streams.serial_executor import PAUSE, Burst, SerialExecutor
from mediagen.streams.streamed_body import BUFFER, GATHERING, StreamedBody
from mediagen.streams.transfer import TransferResult, check_size, first_error

_QUICK: Final = 128 * KIB
"""Bytes of one read from which a source is quick enough for a thread."""
_WORTH: Final = 256 * KIB
"""Bytes that are worth a hop to a thread and back."""
_PIECE: Final = 512 * KIB


async def move_buffered(
    source: Source,
    sink: Sink,
    *,
    pool: BufferAllocator,
    meter: Meter,
    threads: Executor,
    sha256_mode: Sha256Mode = "auto",
    made_here: bool = False,
    on_begin: Callable[[], Awaitable[None]],
) -> TransferResult:
    """Move any source, once and in order.

    A sink that ``accepts_stream`` gets it through one small buffer. For any other sink it goes through part buffers:
    parts are sent while the next ones are read, and a source that fits one part is put in a single request.

    Args:
        made_here: the event loop produces the bytes, so a thread cannot read them.
        on_begin: awaited once a multipart upload has begun, before its first part is sent.

    Raises:
        SourceTruncated: fewer bytes came than were announced.
    """
    if sink.accepts_stream:
        most = GATHERING if made_here else BUFFER
        async with ScratchBuffer(pool, most if source.size is None else min(most, max(1, source.size))) as scratch:
            return await _stream(source, sink, scratch, meter=meter, threads=threads, sha256_mode=sha256_mode)
    sha256 = BackgroundSha256(sha256_mode, threads)
    return await _BufferedTransfer(source, sink, pool, meter, threads, sha256, on_begin).run()


class _BufferedTransfer:
    """One source on its way through part buffers."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        pool: BufferAllocator,
        meter: Meter,
        threads: Executor,
        sha256: BackgroundSha256,
        on_begin: Callable[[], Awaitable[None]],
    ) -> None:
        self._source = source
        self._sink = sink
        self._pool = pool
        self._meter = meter
        self._threads = threads
        self._sha256 = sha256
        self._on_begin = on_begin
        self._inlet = _Inlet(source, meter, threads)
        self._slots = asyncio.Semaphore(sink.parts_in_flight)
        self._buffer_size = sink.part_size if source.size is None else min(sink.part_size, max(1, source.size))
        self._received = 0
        self._stored: list[StoredPart] = []
        self._whole: TransferResult | None = None

    async def run(self) -> TransferResult:
        with self._meter.ticking():
            async with first_error() as group:
                number = 1
                while await self._send_part(number, group):
                    number += 1
        self._meter.finish()
        if self._whole is not None:
            return self._whole
        self._stored.sort(key=lambda part: part.number)
        return TransferResult(self._received, combine_crc32(self._stored), self._sha256.hexdigest(), self._stored)

    async def _send_part(self, number: int, group: asyncio.TaskGroup) -> bool:
        """Fill a buffer and start sending it; False after the last one.

        A caller that waits for the next buffer must not hold this one: it is back in the pool, or freed.
        """
        await self._slots.acquire()
        buffer, handed_on = await self._pool.acquire(self._buffer_size), False
        try:
            filled, crc = await self._inlet.fill(memoryview(buffer))
            self._received += filled
            view = memoryview(buffer)[:filled]
            last = filled < len(buffer) or self._received == self._source.size
            if last:
                check_size(self._source.size, self._received)
            if filled == 0 and number > 1:
                return False
            hashed = self._sha256.add(view, group)
            body = BufferBody(view, crc, chunk_size=self._sink.chunk_size, threads=self._threads)
            if number == 1:
                if last and filled <= self._sink.part_size:
                    await self._store(None, body, hashed, last=True)
                    self._whole = TransferResult(filled, body.crc32, self._sha256.hexdigest(), [])
                    return False
                await self._sink.begin()
                await self._on_begin()
            task = group.create_task(self._store(number, body, hashed, last=last))
            # not by the task itself: one that is cancelled before its first step never reaches its end
            task.add_done_callback(partial(self._release, buffer))
            handed_on = True
            return not last
        finally:
            if not handed_on:
                self._release(buffer)

    async def _store(
        self, number: int | None, body: BufferBody, hashed: asyncio.Task[None] | None, *, last: bool
    ) -> None:
        """Put part ``number``; None: the whole object."""
        try:
            if number is None:
                await self._sink.put_whole(body)
            else:
                self._stored.append(await self._sink.put_part(number, body))
        finally:
            await body.stop()
        self._meter.store(len(body))
        await self._sha256.settle(hashed, last=last)

    def _release(self, buffer: bytearray, _stored: asyncio.Task[None] | None = None) -> None:
        # after a failure the hashing thread may still read the buffer; its digest is of no use any more
        self._pool.release(buffer)
        self._slots.release()


async def _stream(
    source: Source, sink: Sink, scratch: ScratchBuffer, *, meter: Meter, threads: Executor, sha256_mode: Sha256Mode
) -> TransferResult:
    sha256 = InlineSha256(sha256_mode)
    body = StreamedBody(source, scratch, meter=meter, threads=threads, sha256=sha256)
    with meter.ticking():
        await sink.put_whole(body)
    check_size(source.size, len(body))
    meter.finish()
    return TransferResult(len(body), body.crc32, sha256.hexdigest(), [])


class _Inlet:
    """Fills part buffers from a source: in a thread while the source is quick, otherwise in the event loop.

    Bytes are counted and go into the part's CRC as they come, while they are in the processor's cache.
    """

    def __init__(self, source: Source, meter: Meter, threads: Executor) -> None:
        self._source = source
        self._can_try_read = can_try_read(source)
        self._meter = meter
        self._executor = SerialExecutor(threads)
        self._quick = False
        self._filled = 0
        self._crc32 = 0

    async def fill(self, view: memoryview) -> tuple[int, int]:
        """Bytes put into ``view``, fewer than it has room for at the end of the source; and their CRC."""
        self._filled = self._crc32 = 0
        while left := len(view) - self._filled:
            if self._quick and left >= _WORTH and self._can_try_read and self._executor.pays:
                before = self._filled
                await self._executor.run(self._take, view)
                self._executor.moved(self._filled - before)
                self._quick = self._filled - before >= _QUICK
            else:
                count = await self._source.read_into(view[self._filled :])
                if count == 0:
                    break
                self._quick = count >= min(_QUICK, left)
                self._came(view, count)
            self._meter.look()
        return self._filled, self._crc32

    def _take(self, view: memoryview) -> None:
        """Go on filling ``view`` while the source is quick. Runs in a thread."""
        burst = Burst()
        while self._filled < len(view):
            count = try_read_from(self._source, view[self._filled : self._filled + _PIECE], within=PAUSE)
            self._came(view, count)
            if not burst.goes_on(count):
                break

    def _came(self, view: memoryview, count: int) -> None:
        self._crc32 = crc32(view[self._filled : self._filled + count], self._crc32)
        self._filled += count
        self._meter.count(count)
