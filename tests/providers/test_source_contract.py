"""Results are sources like any other, and go through the pump."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from mediagen.providers.builtin.renders import FileSource
from mediagen.streams.base import KIB, Source
from mediagen.streams.buffer_lane import move_buffered
from mediagen.streams.json.media_fields import MediaFields
from mediagen.streams.meter import Meter
from mediagen.streams.pool import BufferPool
from mediagen.streams.sources import ChunkSource, LimitedSource
from tests.contracts.source import SourceContract
from tests.infra.content import content_bytes
from tests.providers.vendor_servers import b64
from tests.streams.memory_sink import MemorySink


@asynccontextmanager
async def in_a_file(data: bytes) -> AsyncIterator[Source]:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(data)
        yield FileSource(file)


@asynccontextmanager
async def in_a_document(data: bytes) -> AsyncIterator[Source]:
    document = json.dumps({"data": [{"b64_json": b64(b"first")}, {"b64_json": b64(data) or " "}]}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(document), 10_007):
            yield document[start : start + 10_007]

    fields = MediaFields(pieces(), [("data", "*", "b64_json")])
    async for field in fields.fields():
        if field.place[1] == "1":
            yield ChunkSource(field.chunks())
            break
    await fields.aclose()


class TestFile(SourceContract):
    knows_its_size = True

    opened = staticmethod(in_a_file)


class TestField(SourceContract):
    opened = staticmethod(in_a_document)


async def test_they_go_through_the_pump() -> None:
    data = content_bytes(2_000_000, 9)

    async def begun() -> None:
        pass

    with ThreadPoolExecutor(2) as threads:
        for opened in (in_a_file, in_a_document):
            sink = MemorySink()
            async with opened(data) as source:
                moved = await move_buffered(
                    LimitedSource(source, len(data)),
                    sink,
                    pool=BufferPool(8 * 256 * KIB),
                    meter=Meter(lambda _: None, total=source.size),
                    threads=threads,
                    on_begin=begun,
                )

            assert sink.content == data
            assert moved.size == len(data)
