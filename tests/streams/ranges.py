"""A resource in memory whose ranges can be asked for, and which can fail."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from mediagen.core.errors import FetchFailed, SourceTruncated
from mediagen.streams.base import KIB


@dataclass
class MemoryRanges:
    """Fits ``streams.base.RangeSource``. ``log`` has every stretch that was read: offset and length."""

    content: bytes
    fails_at: int | None = None
    """A read that comes to this offset raises SourceTruncated."""
    max_readers: int | None = None
    """Readers that may read at once; the next one is refused."""
    refusal: Exception = field(default_factory=lambda: FetchFailed("no more connections"))
    pauses: bool = False
    """Every read gives the other tasks a turn."""
    log: list[tuple[int, int]] = field(default_factory=list)
    open: set[MemoryReader] = field(default_factory=set)
    reading: set[MemoryReader] = field(default_factory=set)
    expected: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def taken(self) -> int:
        """Bytes read in all."""
        return sum(length for _, length in self.log)

    def open_reader(self) -> MemoryReader:
        reader = MemoryReader(self)
        self.open.add(reader)
        return reader


class MemoryReader:
    """Fits ``streams.base.RangeReader``."""

    def __init__(self, source: MemoryRanges) -> None:
        self._source = source
        self._position = 0

    def expect(self, start: int, end: int, /) -> None:
        self._source.expected.append((start, end))

    async def seek(self, offset: int, /) -> None:
        self._position = offset

    async def read_into(self, buffer: memoryview, /) -> int:
        source = self._source
        assert self in source.open, "read after it was closed"
        if source.max_readers is not None and len(source.reading | {self}) > source.max_readers:
            raise source.refusal
        source.reading.add(self)
        if source.pauses:
            await asyncio.sleep(0)
        stop = min(self._position + len(buffer), self._position + 100 * KIB, source.size)
        if source.fails_at is not None:
            if self._position >= source.fails_at:
                raise SourceTruncated(f"the answer ended at byte {self._position}")
            if self._position < source.fails_at:
                stop = min(stop, source.fails_at)
        count = stop - self._position
        buffer[:count] = source.content[self._position : stop]
        source.log.append((self._position, count))
        self._position = stop
        return count

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        source = self._source
        stop = min(self._position + len(buffer), self._position + 100 * KIB, source.size)
        if source.fails_at is not None and self._position < source.fails_at:
            stop = min(stop, source.fails_at)
        elif source.fails_at is not None or self not in source.reading:
            return 0
        count = stop - self._position
        buffer[:count] = source.content[self._position : stop]
        source.log.append((self._position, count))
        self._position = stop
        return count

    async def aclose(self) -> None:
        self._source.open.discard(self)
        self._source.reading.discard(self)
