"""The range lane: parts of a ``RangeSource``, downloaded and stored side by side (``transfer``)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from typing import Any, Final

import structlog

from mediagen.core.errors import FetchFailed, SourceChanged, SourceTruncated
from mediagen.streams.base import RangeReader, RangeSource, Sink, StoredPart, Watch
from mediagen.streams.digest import combine_crc32
from mediagen.streams.meter import Meter
from mediagen.streams.parts import RangeBody
from mediagen.streams.transfer import TransferResult, first_error

log = structlog.get_logger()

_SPAN_PARTS: Final = 8
"""Neighbouring parts that a worker reads over one connection, at most, before it takes the next span."""


async def move_ranges(
    source: RangeSource,
    sink: Sink,
    *,
    readers: Sequence[RangeReader],
    meter: Meter,
    done: Sequence[StoredPart],
    record: Callable[[StoredPart], Coroutine[Any, Any, None]],
    workers: int,
    threads: Executor,
    watch: Watch | None = None,
) -> TransferResult:
    """Move a resource in parallel ranges; the body of each part is its own download.

    Args:
        readers: readers that are already open; the first workers take them, the others open their own.
        done: parts that an earlier run stored and recorded, see ``still_stored``; they are not read again.
        record: remembers a stored part across a crash; runs beside the transfer.
        workers: parts in flight at once.
        threads: where bytes are moved while both sides are quick.
        watch: sees all bytes as they pass, in no order.
    """
    transfer = _RangeTransfer(source, sink, readers, meter, done, record, threads, watch)
    return await transfer.run(workers)


class _RangeTransfer:
    """One resource whose parts are downloaded and stored side by side."""

    def __init__(
        self,
        source: RangeSource,
        sink: Sink,
        readers: Sequence[RangeReader],
        meter: Meter,
        done: Sequence[StoredPart],
        record: Callable[[StoredPart], Coroutine[Any, Any, None]],
        threads: Executor,
        watch: Watch | None,
    ) -> None:
        self._source = source
        self._sink = sink
        self._meter = meter
        self._record = record
        self._threads = threads
        self._watch = watch
        self._part_size = sink.part_size
        self._count = -(-source.size // sink.part_size)
        self._parts = {part.number: part for part in done}
        # stored just before a crash, but not recorded: read again for its checksum, not sent again
        self._unrecorded = {
            number
            for number, receipt in sink.stored.items()
            if number not in self._parts and number <= self._count and receipt.size == self._length_of(number)
        }
        self._readers = deque(readers)
        self._spans: deque[list[int]] = deque()
        self._working = 0

    async def run(self, workers: int) -> TransferResult:
        missing = [number for number in range(1, self._count + 1) if number not in self._parts]
        self._spans = _spans(missing, at_most=max(1, min(_SPAN_PARTS, -(-len(missing) // (workers * 4)))))
        self._working = min(workers, len(self._spans))
        try:
            with self._meter.ticking():
                async with first_error() as group:
                    for _ in range(self._working):
                        group.create_task(self._work(group))
        finally:
            for reader in self._readers:
                await reader.aclose()
        ordered = [self._parts[number] for number in range(1, self._count + 1)]
        received = sum(part.size for part in ordered)
        if received != self._source.size:
            raise SourceTruncated(f"stored {received} of {self._source.size} bytes")
        self._meter.finish()
        return TransferResult(received, combine_crc32(ordered), None, ordered)

    async def _work(self, group: asyncio.TaskGroup) -> None:
        """Transfer spans over one connection until none is left, or the source refuses the connection."""
        scratch = bytearray(self._sink.chunk_size)
        reader = self._readers.popleft() if self._readers else self._source.open_reader()
        accepted = False
        try:
            while self._spans:
                span = self._spans.popleft()
                reader.expect(self._start_of(span[0]), self._start_of(span[-1]) + self._length_of(span[-1]))
                for number in span:
                    alone = self._working == 1
                    try:
                        part = await self._send_part(reader, number, scratch)
                    except SourceChanged:
                        raise
                    except FetchFailed as exc:
                        if accepted or alone:
                            raise
                        # the source may not allow this many connections: those that it has accepted do the work
                        log.info("connection_refused", reason=exc.detail)
                        self._spans.appendleft(span)
                        if self._working > 1:
                            return
                        break
                    accepted = True
                    self._parts[number] = part
                    self._meter.store(part.size)
                    group.create_task(self._record(part))
        finally:
            self._working -= 1
            await reader.aclose()

    async def _send_part(self, reader: RangeReader, number: int, scratch: bytearray) -> StoredPart:
        body = RangeBody(
            reader,
            self._start_of(number),
            self._length_of(number),
            meter=self._meter,
            threads=self._threads,
            scratch=scratch,
            watch=self._watch,
        )
        try:
            if number not in self._unrecorded:
                return await self._sink.put_part(number, body)
            await body.write_to(_NullTarget())
            return StoredPart(number, len(body), body.crc32, self._sink.stored[number].token)
        except BaseException:
            await body.stop()
            body.forget()
            raise

    def _start_of(self, number: int) -> int:
        return (number - 1) * self._part_size

    def _length_of(self, number: int) -> int:
        return min(self._part_size, self._source.size - self._start_of(number))


class _NullTarget:
    """Discards bytes that are read for their checksum only."""

    async def write(self, view: memoryview, /) -> None:
        """Discard the bytes."""

    def try_write(self, view: memoryview, /, *, within: float) -> int:
        return len(view)


def _spans(numbers: list[int], *, at_most: int) -> deque[list[int]]:
    """Runs of consecutive numbers, none longer than ``at_most``."""
    spans: deque[list[int]] = deque()
    for number in numbers:
        if spans and spans[-1][-1] == number - 1 and len(spans[-1]) < at_most:
            spans[-1].append(number)
        else:
            spans.append([number])
    return spans
