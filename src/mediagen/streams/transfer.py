"""The pump: the only place where a source meets a sink. Two lanes, one result.

    buffer lane   source ─ fill, CRC ─▶ [part buffer from the pool] ─▶ SHA-256 in a thread ─▶ sink.put_part
      or, where no part has to be kept:  sink.put_whole pulls ◀─ StreamedBody ◀─ source, CRC and SHA-256 on the way
    range lane    N workers: sink.put_part pulls ◀─ RangeBody ◀─ reader's range, CRC on the way, no buffer

Neither commits: the caller compares sizes, then commits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from mediagen.core.errors import FetchFailed, SourceChanged, SourceTruncated, first_cause
from mediagen.streams.base import (
    KIB,
    PartReceipt,
    RangeReader,
    RangeSource,
    Sink,
    Source,
    StoredPart,
    SupportsTryRead,
    Watch,
    try_read_from,
)
from mediagen.streams.digest import BackgroundSha256, InlineSha256, Sha256Mode, combine_crc32, crc32
from mediagen.streams.meter import Meter
from mediagen.streams.parts import BufferBody, RangeBody
from mediagen.streams.pool import BufferAllocator
from mediagen.streams.scratch import ScratchBuffer
from mediagen.streams.serial_executor import PAUSE, Burst, SerialExecutor
from mediagen.streams.streamed_body import BUFFER, GATHERING, StreamedBody

log = structlog.get_logger()

_QUICK: Final = 128 * KIB
"""A source that gives so much at a time is quick enough for a thread."""
_WORTH: Final = 256 * KIB
"""Bytes that are worth the way to a thread and back."""
_PIECE: Final = 512 * KIB
_SPAN_PARTS: Final = 8
"""At most so many neighbouring parts are read over one connection before a worker takes the next span."""


@dataclass(frozen=True, slots=True)
class TransferResult:
    """What went through: bytes, CRC-32 of the whole, SHA-256 where bytes came in order, and the parts to commit."""

    size: int
    crc32: int
    sha256: str | None
    parts: list[StoredPart]


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
    """Move a source of any kind, once and in order.

    Into a sink that pours once it passes through one small buffer. Otherwise it goes through part buffers, and parts
    are sent while the next ones are read; what fits one part is put in a single request. ``on_begin`` runs once an
    upload in parts is announced and before its first part is sent. ``made_here``: the event loop makes the bytes, no
    thread can take them.

    Raises:
        SourceTruncated: fewer bytes came than were announced.
    """
    if sink.accepts_stream:
        most = GATHERING if made_here else BUFFER
        async with ScratchBuffer(pool, most if source.size is None else min(most, max(1, source.size))) as scratch:
            return await _pass(source, sink, scratch, meter=meter, threads=threads, sha256_mode=sha256_mode)
    inlet = _Inlet(source, meter, threads)
    sha256 = BackgroundSha256(sha256_mode, threads)
    stored: list[StoredPart] = []
    whole: TransferResult | None = None
    slots = asyncio.Semaphore(sink.parts_in_flight)
    received = 0
    size = sink.part_size if source.size is None else min(sink.part_size, max(1, source.size))

    async def store(number: int | None, body: BufferBody, hashed: asyncio.Task[None] | None, *, last: bool) -> None:
        """Put part ``number``; None: the whole object."""
        try:
            if number is None:
                await sink.put_whole(body)
            else:
                stored.append(await sink.put_part(number, body))
        finally:
            await body.stop()
        meter.store(len(body))
        await sha256.settle(hashed, last=last)

    def give_back(buffer: bytearray, _stored: asyncio.Task[None] | None = None) -> None:
        # after a failure the hashing thread may still look at the buffer; its result is of no use any more
        pool.release(buffer)
        slots.release()

    async def send(number: int, group: asyncio.TaskGroup) -> bool:
        """Fill a buffer and send it on its way. Whether there may be more.

        Whoever waits for the next buffer must not hold this one: the pool has given it to another, or let it go.
        """
        nonlocal received, whole
        await slots.acquire()
        buffer, handed_on = await pool.acquire(size), False
        try:
            filled, crc = await inlet.fill(memoryview(buffer))
            received += filled
            view = memoryview(buffer)[:filled]
            last = filled < len(buffer) or received == source.size
            if last:
                _check_size(source.size, received)
            if filled == 0 and number > 1:
                return False
            hashed = sha256.add(view, group)
            body = BufferBody(view, crc, chunk_size=sink.chunk_size, threads=threads)
            if number == 1:
                if last and filled <= sink.part_size:
                    await store(None, body, hashed, last=True)
                    whole = TransferResult(filled, body.crc32, sha256.hexdigest(), [])
                    return False
                await sink.begin()
                await on_begin()
            task = group.create_task(store(number, body, hashed, last=last))
            # not by the task itself: one that is cancelled before its first step never comes to its end
            task.add_done_callback(partial(give_back, buffer))
            handed_on = True
            return not last
        finally:
            if not handed_on:
                give_back(buffer)

    with meter.ticking():
        async with _one_cause() as group:
            number = 1
            while await send(number, group):
                number += 1
    meter.finish()
    if whole is not None:
        return whole
    stored.sort(key=lambda part: part.number)
    return TransferResult(received, combine_crc32(stored), sha256.hexdigest(), stored)


async def _pass(
    source: Source, sink: Sink, scratch: ScratchBuffer, *, meter: Meter, threads: Executor, sha256_mode: Sha256Mode
) -> TransferResult:
    sha256 = InlineSha256(sha256_mode)
    body = StreamedBody(source, scratch, meter=meter, threads=threads, sha256=sha256)
    with meter.ticking():
        await sink.put_whole(body)
    _check_size(source.size, len(body))
    meter.finish()
    return TransferResult(len(body), body.crc32, sha256.hexdigest(), [])


def _check_size(announced: int | None, received: int) -> None:
    if announced is not None and received != announced:
        raise SourceTruncated(f"got {received} of {announced} bytes")


@asynccontextmanager
async def _one_cause() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that fails with the error that came first, not with a group of errors: callers tell by its class."""
    own: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            try:
                yield group
            except Exception as exc:
                own = exc
                raise
    except BaseExceptionGroup as several:
        raise own or first_cause(several) from None


class _Inlet:
    """Fills part buffers from a source: in a thread while the source is quick, otherwise in the event loop.

    Bytes are counted and go into the part's CRC as they come, while they are in the processor's cache.
    """

    def __init__(self, source: Source, meter: Meter, threads: Executor) -> None:
        self._source = source
        self._can_try_read = isinstance(source, SupportsTryRead)
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


async def move_ranges(
    source: RangeSource,
    sink: Sink,
    *,
    readers: Sequence[RangeReader],
    meter: Meter,
    done: Sequence[StoredPart],
    record: Callable[[StoredPart], Awaitable[None]],
    workers: int,
    threads: Executor,
    watch: Watch | None = None,
) -> TransferResult:
    """Move a resource in parallel ranges, each part's body being its own download.

    Args:
        readers: readers that are open already; the first workers take them over, the rest open their own.
        done: parts that an earlier run stored and recorded, see ``still_stored``; they are not read again.
        record: remembers a stored part over a crash; runs beside the transfer.
        workers: parts on their way at once.
        threads: where bytes are moved while both sides are quick.
        watch: sees all bytes as they pass, in no order.
    """
    part_size = sink.part_size
    count = -(-source.size // part_size)

    def length_of(number: int) -> int:
        return min(part_size, source.size - (number - 1) * part_size)

    parts = {part.number: part for part in done}
    # stored just before a crash, but not recorded: read again for its checksum, not sent again
    unrecorded = {
        number
        for number, receipt in sink.stored.items()
        if number not in parts and number <= count and receipt.size == length_of(number)
    }
    missing = [number for number in range(1, count + 1) if number not in parts]
    spans = _spans(missing, at_most=max(1, min(_SPAN_PARTS, -(-len(missing) // (workers * 4)))))
    open_readers = deque(readers)
    working = min(workers, len(spans))

    async def send(reader: RangeReader, number: int, scratch: bytearray) -> StoredPart:
        body = RangeBody(
            reader,
            (number - 1) * part_size,
            length_of(number),
            meter=meter,
            threads=threads,
            scratch=scratch,
            watch=watch,
        )
        try:
            if number not in unrecorded:
                return await sink.put_part(number, body)
            await body.write_to(_Nowhere())
            return StoredPart(number, len(body), body.crc32, sink.stored[number].token)
        except BaseException:
            await body.stop()
            body.forget()
            raise

    async def work(group: asyncio.TaskGroup) -> None:
        nonlocal working
        scratch = bytearray(sink.chunk_size)
        reader = open_readers.popleft() if open_readers else source.open_reader()
        let_in = False
        try:
            while spans:
                span = spans.popleft()
                reader.expect((span[0] - 1) * part_size, (span[-1] - 1) * part_size + length_of(span[-1]))
                for number in span:
                    alone = working == 1
                    try:
                        part = await send(reader, number, scratch)
                    except SourceChanged:
                        raise
                    except FetchFailed as exc:
                        if let_in or alone:
                            raise
                        # the source may not bear so many connections: those that it has let in do the work
                        log.info("connection_refused", reason=exc.detail)
                        spans.appendleft(span)
                        if working > 1:
                            return
                        break
                    let_in = True
                    parts[number] = part
                    meter.store(part.size)
                    group.create_task(_record(record, part))
        finally:
            working -= 1
            await reader.aclose()

    try:
        with meter.ticking():
            async with _one_cause() as group:
                for _ in range(working):
                    group.create_task(work(group))
    finally:
        for reader in open_readers:
            await reader.aclose()
    ordered = [parts[number] for number in range(1, count + 1)]
    received = sum(part.size for part in ordered)
    if received != source.size:
        raise SourceTruncated(f"stored {received} of {source.size} bytes")
    meter.finish()
    return TransferResult(received, combine_crc32(ordered), None, ordered)


class _Nowhere:
    """Takes what is read for its checksum only."""

    async def write(self, view: memoryview, /) -> None:
        """Nothing to do."""

    def try_write(self, view: memoryview, /, *, within: float) -> int:
        return len(view)


def still_stored(recorded: Sequence[StoredPart], sink: Sink) -> list[StoredPart]:
    """Those of the recorded parts that the store still has as they were recorded."""
    return [part for part in recorded if sink.stored.get(part.number) == PartReceipt(part.size, part.token)]


async def _record(record: Callable[[StoredPart], Awaitable[None]], part: StoredPart) -> None:
    await record(part)


def _spans(numbers: list[int], *, at_most: int) -> deque[list[int]]:
    """Runs of consecutive numbers, cut so that none is longer than ``at_most``."""
    spans: deque[list[int]] = deque()
    for number in numbers:
        if spans and spans[-1][-1] == number - 1 and len(spans[-1]) < at_most:
            spans[-1].append(number)
        else:
            spans.append([number])
    return spans
