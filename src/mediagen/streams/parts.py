"""Part bodies, and how an object is cut into parts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Final

from mediagen.core.errors import MediagenError
from mediagen.streams.base import KIB, MIB, RangeReader, View
from mediagen.streams.digest import crc32
from mediagen.streams.meter import Meter

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


class _Seekable:
    """The file-like half of a body: botocore asks where it stands and takes it back to the start before a retry."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._offset = 0

    def __len__(self) -> int:
        return self._length

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._length}[whence]
        self._offset = base + offset
        return self._offset

    def tell(self) -> int:
        return self._offset


class BufferBody(_Seekable):
    """A part that lies in a buffer.

    Handed to aiohttp as an async iterable of views it is written piece by piece with back-pressure: one ``bytes`` of
    8 MiB instead is joined with the headers and copied two or three times on its way to the socket.
    """

    def __init__(self, view: memoryview, *, chunk_size: int = 512 * KIB) -> None:
        super().__init__(len(view))
        self._view = view
        self._chunk_size = chunk_size
        self.crc32 = crc32(view)
        self.failure: Exception | None = None

    @property
    def view(self) -> memoryview:
        return self._view

    def read(self, size: int = -1, /) -> bytes:
        end = self._length if size is None or size < 0 else min(self._length, self._offset + size)
        data = bytes(self._view[self._offset : end])
        self._offset = end
        return data

    async def __aiter__(self) -> AsyncIterator[View]:
        for start in range(0, self._length, self._chunk_size):
            yield self._view[start : start + self._chunk_size]
            # a socket that takes everything never makes the writer wait: give the other tasks their turn
            await asyncio.sleep(0)


class RangeBody(_Seekable):
    """A part that *is* the download of its range: no part buffer, and a retry of the part reads the range again.

    Nothing may read it ahead, so the store's request must leave its payload unsigned and unhashed. ``crc32`` is made on
    the way and holds once an iteration has come to its end.
    """

    def __init__(
        self,
        reader: RangeReader,
        start: int,
        length: int,
        *,
        meter: Meter,
        chunk_size: int = 256 * KIB,
        scratch: bytearray | None = None,
    ) -> None:
        super().__init__(length)
        self._reader = reader
        self._start = start
        self._meter = meter
        self._scratch = memoryview(scratch if scratch is not None else bytearray(chunk_size))
        self._received = 0
        self._crc32: int | None = None
        self.failure: Exception | None = None

    @property
    def crc32(self) -> int:
        if self._crc32 is None:
            raise RuntimeError("the part has not been read to its end")
        return self._crc32

    @property
    def received(self) -> int:
        """Bytes of this part that the present iteration has counted."""
        return self._received

    def read(self, size: int = -1, /) -> bytes:
        raise RuntimeError("a streamed part cannot be read ahead: payload signing and automatic checksums must be off")

    def forget(self) -> None:
        """Take back what the last iteration counted: the part will come again, or not at all."""
        if self._received:
            self._meter.receive(-self._received)
            self._received = 0

    async def __aiter__(self) -> AsyncIterator[View]:
        self.forget()
        self._crc32 = self.failure = None
        crc = 0
        await self._reader.seek(self._start)
        while self._received < self._length:
            wanted = self._scratch[: self._length - self._received]
            try:
                count = await self._reader.read_into(wanted)
            except MediagenError as exc:
                self.failure = exc
                raise
            # a copy of its own: the transport may keep a reference to what it could not send at once
            chunk = bytes(wanted[:count])
            crc = crc32(chunk, crc)
            self._received += count
            self._meter.receive(count)
            if self._received == self._length:
                self._crc32 = crc
            yield chunk
