"""Sources, and sources made of sources."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Final

from mediagen.core.errors import SourceTruncated, TooLarge, UnsupportedMedia
from mediagen.streams.base import KIB, Source, View, try_read_from

_CHUNK: Final = 256 * KIB


class ChunkSource:
    """A source made of an iterator of chunks. What does not fit the caller's buffer waits for the next call."""

    def __init__(self, chunks: AsyncIterator[View], *, size: int | None = None) -> None:
        self.size = size
        self._chunks = chunks
        self._left: memoryview = memoryview(b"")

    async def read_into(self, buffer: memoryview, /) -> int:
        while not self._left:
            try:
                self._left = memoryview(await anext(self._chunks))
            except StopAsyncIteration:
                return 0
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


async def read_chunks(source: Source) -> AsyncIterator[bytes]:
    """A source as an iterator of chunks."""
    scratch = memoryview(bytearray(min(_CHUNK, source.size or _CHUNK)))
    while count := await source.read_into(scratch):
        yield bytes(scratch[:count])


class LimitedSource:
    """Raises TooLarge as soon as more than ``max_bytes`` have come, at once when the announced size is larger."""

    def __init__(self, source: Source, max_bytes: int) -> None:
        if source.size is not None and source.size > max_bytes:
            raise TooLarge(f"{source.size} bytes announced, at most {max_bytes} are allowed")
        self.size = source.size
        self._source = source
        self._left = max_bytes
        self._max_bytes = max_bytes

    async def read_into(self, buffer: memoryview, /) -> int:
        return self._passed(await self._source.read_into(buffer))

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        return self._passed(try_read_from(self._source, buffer, within=within))

    def _passed(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise TooLarge(f"larger than {self._max_bytes} bytes")
        return count


class ExactSource:
    """Raises SourceTruncated when a source of announced size ends early."""

    def __init__(self, source: Source) -> None:
        self.size = source.size
        self._source = source
        self._done = 0

    async def read_into(self, buffer: memoryview, /) -> int:
        count = await self._source.read_into(buffer)
        self._done += count
        if self.size is not None and (self._done > self.size or (count == 0 and self._done < self.size)):
            raise SourceTruncated(f"got {self._done} of {self.size} bytes")
        return count

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        count = try_read_from(self._source, buffer, within=within)
        self._done += count
        return count


class PeekableSource:
    """A source whose first bytes were looked at before anybody took them."""

    def __init__(self, source: Source) -> None:
        self.size = source.size
        self._source = source
        self._head = b""

    async def peek(self, count: int) -> bytes:
        """The first ``count`` bytes, fewer when the source is shorter."""
        scratch = memoryview(bytearray(max(0, count - len(self._head))))
        while len(self._head) < count:
            read = await self._source.read_into(scratch[: count - len(self._head)])
            if read == 0:
                break
            self._head += bytes(scratch[:read])
        return self._head[:count]

    async def read_into(self, buffer: memoryview, /) -> int:
        if not self._head:
            return await self._source.read_into(buffer)
        count = min(len(buffer), len(self._head))
        buffer[:count] = self._head[:count]
        self._head = self._head[count:]
        return count

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        return 0 if self._head else try_read_from(self._source, buffer, within=within)


_WINDOW_BITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_PIECE: Final = 64 * KIB
_GZIP: Final = b"\x1f\x8b"
_PADDING: Final = b"\0\r\n \t"
"""What programs leave behind the end of a compressed stream: blocks of a tape, a line's end of a script."""


def holds_gzip(head: bytes) -> bool:
    """Whether a gzip stream that begins so holds another one."""
    try:
        return zlib.decompressobj(_WINDOW_BITS["gzip"]).decompress(head, 2) == _GZIP
    except zlib.error:
        return False


class DecompressedSource:
    """The content of a transfer that came compressed although ``identity`` was asked for (RFC 9110 section 8.4).

    Works in pieces of 64 KiB, so that a small input cannot become a large memory. The length is not known, and a
    stream that ends before its own end marker is an error. A gzip stream may have several members (RFC 1952 section
    2.2), and padding behind the last one; ``deflate`` is taken with its wrapper and, as some servers send it, without.

    ``may_be_empty``: nothing at all is taken for an empty stream, since the framing shows that it is all.
    """

    size: int | None = None

    def __init__(self, source: Source, coding: str, *, may_be_empty: bool = False) -> None:
        bits = _WINDOW_BITS.get(coding.strip().lower())
        if bits is None:
            raise UnsupportedMedia(f"the source insists on content coding {coding!r}; gzip and deflate are understood")
        self._source = source
        self._bits = bits
        self._inflate = zlib.decompressobj(bits)
        self._scratch = bytearray(_PIECE)
        self._left: View = b""
        self._first = b""
        self._ended = False
        self._may_be_empty = may_be_empty

    async def read_into(self, buffer: memoryview, /) -> int:
        while True:
            if not self._left and not self._ended:
                count = await self._source.read_into(memoryview(self._scratch))
                self._ended = count == 0
                self._left = memoryview(self._scratch)[:count]
                self._may_be_empty = self._may_be_empty and self._ended
            if self._ended and self._may_be_empty:
                return 0
            if self._inflate.eof:
                self._left = bytes(self._left).lstrip(_PADDING)
                if not self._left:
                    if self._ended:
                        return 0
                    continue
                if self._bits == 15:
                    raise SourceTruncated("bytes after the end of the compressed stream")
                self._inflate = zlib.decompressobj(self._bits)
            if out := self._decompress(min(len(buffer), _PIECE)):
                buffer[: len(out)] = out
                return len(out)
            if self._ended and not self._left and not self._inflate.eof:
                raise SourceTruncated("the compressed stream ends before its end marker")

    def _decompress(self, at_most: int) -> bytes:
        data = self._left
        try:
            out = self._inflate.decompress(data, at_most)
        except zlib.error as exc:
            if self._bits != 15 or len(self._first) > 1:
                raise SourceTruncated(f"the compressed stream is damaged: {exc}") from None
            data = self._first + bytes(data)
            self._inflate = zlib.decompressobj(-15)
            self._first = data[:2].ljust(2)
            self._left = data
            return b""
        if len(self._first) < 2:
            self._first += bytes(data[: 2 - len(self._first)])
        self._left = self._inflate.unconsumed_tail or self._inflate.unused_data
        return out
