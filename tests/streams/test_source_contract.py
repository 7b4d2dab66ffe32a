"""Every source of the streams room keeps the contract; those of the network are in tests/net."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mediagen.streams.base import RangeSource, Source
from mediagen.streams.formats.completeness import CompleteSource
from mediagen.streams.sources import ChunkSource, DecompressedSource, ExactSource, LimitedSource, PeekableSource
from tests.contracts.source import RangeSourceContract, SourceContract
from tests.streams.ranges import MemoryRanges


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 7777):
        yield data[start : start + 7777]


class TestChunks(SourceContract):
    @asynccontextmanager
    async def opened(self, data: bytes) -> AsyncIterator[Source]:
        yield ChunkSource(chunks(data))


class TestChunksOfKnownLength(SourceContract):
    knows_its_size = True

    @asynccontextmanager
    async def opened(self, data: bytes) -> AsyncIterator[Source]:
        yield ExactSource(LimitedSource(ChunkSource(chunks(data), size=len(data)), len(data)))


class TestPeeked(SourceContract):
    @asynccontextmanager
    async def opened(self, data: bytes) -> AsyncIterator[Source]:
        peeked = PeekableSource(ChunkSource(chunks(data)))
        await peeked.peek(4096)
        yield CompleteSource(peeked, "application/octet-stream")


class TestDecompressed(SourceContract):
    @asynccontextmanager
    async def opened(self, data: bytes) -> AsyncIterator[Source]:
        yield DecompressedSource(ChunkSource(chunks(gzip.compress(data, 1))), "gzip")


class TestMemoryRanges(RangeSourceContract):
    """What the tests of transfers read from is no easier than the real thing."""

    @asynccontextmanager
    async def opened(self, data: bytes) -> AsyncIterator[RangeSource]:
        yield MemoryRanges(data)
