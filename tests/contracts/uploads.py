"""Uploads as tests make them: real bytes through the bodies and pumps of ``streams`` into any store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import pytest

from mediagen.core.errors import FetchFailed, MediagenError, first_cause
from mediagen.core.progress import Transfer
from mediagen.storage.base import Storage
from mediagen.streams.base import MIB, Sink, StoredPart
from mediagen.streams.buffer_lane import move_buffered
from mediagen.streams.digest import combine_crc32, crc32
from mediagen.streams.meter import Meter
from mediagen.streams.parts import BufferBody, RangeBody
from mediagen.streams.pool import BufferPool
from mediagen.streams.transfer import TransferResult
from tests.infra.content import content_bytes
from tests.streams.targets import THREADS

KEY: Final = "videos/file_0123.mp4"
TOKEN: Final = "file_0123456789abcdef"
ABOUT: Final[dict[str, Any]] = {"media_type": "video/mp4", "token": TOKEN}
ODD: Final = 12_347


@lru_cache(maxsize=16)
def the_bytes(size: int, seed: int = 1) -> bytes:
    return content_bytes(size, seed)


class BytesReader:
    """A ``RangeReader`` over bytes. Stops at ``stall_at`` until released, breaks at ``fail_at``."""

    def __init__(
        self, data: bytes, *, stall_at: int | None = None, fail_at: int | None = None, chunk: int = 256 * 1024
    ) -> None:
        self._data = data
        self._offset = 0
        self._stall_at = stall_at
        self._fail_at = fail_at
        self._chunk = chunk
        self.stalled = asyncio.Event()
        self.release = asyncio.Event()
        self.failure: MediagenError = FetchFailed("the source broke")
        self.seeks: list[int] = []

    def expect(self, start: int, end: int, /) -> None:
        pass

    async def seek(self, offset: int, /) -> None:
        self._offset = offset
        self.seeks.append(offset)

    async def read_into(self, buffer: memoryview, /) -> int:
        limit = len(self._data)
        if self._stall_at is not None and not self.release.is_set():
            if self._offset >= self._stall_at:
                self.stalled.set()
                await self.release.wait()
            else:
                limit = self._stall_at
        if self._fail_at is not None:
            if self._offset >= self._fail_at:
                raise self.failure
            limit = min(limit, self._fail_at)
        piece = self._data[self._offset : min(limit, self._offset + min(len(buffer), self._chunk))]
        buffer[: len(piece)] = piece
        self._offset += len(piece)
        return len(piece)

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        limit = len(self._data)
        if self._stall_at is not None and not self.release.is_set():
            limit = max(self._offset, self._stall_at)
        if self._fail_at is not None:
            limit = min(limit, max(self._offset, self._fail_at))
        piece = self._data[self._offset : min(limit, self._offset + min(len(buffer), self._chunk))]
        buffer[: len(piece)] = piece
        self._offset += len(piece)
        return len(piece)

    async def aclose(self) -> None:
        pass


class BytesSource:
    """``Source`` and ``RangeSource`` over bytes; ``size`` may be kept secret, as a server does that sends chunks."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def open_reader(self) -> BytesReader:
        return BytesReader(self.data)


class OnceSource:
    """``Source`` over bytes that are read once, in pieces of odd sizes."""

    def __init__(self, data: bytes, *, announced: bool) -> None:
        self.size = len(data) if announced else None
        self._left = memoryview(data)

    async def read_into(self, buffer: memoryview, /) -> int:
        piece = self._left[: min(len(buffer), 300_007)]
        buffer[: len(piece)] = piece
        self._left = self._left[len(piece) :]
        return len(piece)


class Readings:
    """A meter's readings."""

    def __init__(self, total: int | None) -> None:
        self.seen: list[Transfer] = []
        self.meter = Meter(self.seen.append, total=total)


def ranged(data: bytes, number: int, part_size: int, reader: BytesReader | None = None) -> RangeBody:
    """Part ``number`` of ``data`` as the range lane sends it."""
    start = (number - 1) * part_size
    length = min(part_size, len(data) - start)
    return RangeBody(reader or BytesReader(data), start, length, meter=Readings(None).meter, threads=THREADS)


async def put_parts(sink: Sink, data: bytes, numbers: Sequence[int]) -> list[StoredPart]:
    """Store these parts of ``data`` one after another."""
    return [await sink.put_part(number, ranged(data, number, sink.part_size)) for number in numbers]


async def commit(sink: Sink, parts: list[StoredPart]) -> None:
    parts = sorted(parts, key=lambda part: part.number)
    await sink.commit(parts, size=sum(part.size for part in parts), crc32=combine_crc32(parts))


async def buffered(sink: Sink, data: bytes, *, announced: bool = True) -> TransferResult:
    """Everything through the buffer lane, committed."""

    async def begun() -> None:
        assert sink.state["token"] == TOKEN

    try:
        moved = await move_buffered(
            OnceSource(data, announced=announced),
            sink,
            pool=BufferPool(64 * MIB),
            meter=Readings(None).meter,
            threads=THREADS,
            sha256_mode="always",
            on_begin=begun,
        )
    except ExceptionGroup as exc:
        raise first_cause(exc) from exc
    await sink.commit(moved.parts, size=moved.size, crc32=moved.crc32)
    return moved


async def read(storage: Storage, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
    """What the store gives."""
    pieces = []
    buffer = bytearray(MIB)
    async with storage.open_source(key, offset=offset, length=length) as source:
        while count := await source.read_into(memoryview(buffer)):
            pieces.append(bytes(buffer[:count]))
        assert source.size == sum(map(len, pieces))
    return b"".join(pieces)


async def put(storage: Storage, data: bytes, *, key: str = KEY, token: str = "token-of-another") -> None:
    """A small object of somebody else's."""
    async with storage.open_sink(key, media_type="video/mp4", token=token, size=len(data)) as sink:
        await sink.put_whole(BufferBody(memoryview(data)))
        await sink.commit([], size=len(data), crc32=crc32(data))


async def cancelled(work: asyncio.Task[Any]) -> None:
    """Cancel and wait for the end."""
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
