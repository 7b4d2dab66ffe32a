"""Videos in an order in which they can be read through a pipe.

MP4 and QuickTime files (ISO/IEC 14496-12) often have their index (``moov``) behind the media that it tells of. It is
read first, by itself, and put before the media; the offsets that it names are moved by its own length. Nothing of the
media is read for that, and nothing is kept but the index.
"""

from __future__ import annotations

import asyncio
import sys
from array import array
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import Final, Protocol, TypeAlias

from mediagen.core.errors import UnsupportedMedia
from mediagen.streams.base import KIB, MIB, Source

Piece: TypeAlias = bytes | range
"""Bytes as they are, or a range of the stored video."""

_AHEAD: Final = 4 * KIB
"""Bytes asked for at once to look at heads of boxes: those before the media are small, and lie together."""
_MOST_BOXES: Final = 1000
_MOST_INDEX: Final = 64 * MIB
"""The index of a video of a day has some 40 MiB."""
_CONTAINERS: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})
_OFFSET_TABLES: Final = {b"stco": "I", b"co64": "Q"}
"""Boxes with offsets in the file, and the ``array`` type of their numbers."""


class OpenRange(Protocol):
    """Opens a range of a stored video, as ``Storage.open_source`` does."""

    def __call__(self, *, offset: int = 0, length: int | None = None) -> AbstractAsyncContextManager[Source]: ...


async def plan_faststart(opens: OpenRange, size: int) -> tuple[Piece, ...]:
    """An MP4 or QuickTime file of ``size`` bytes with its index before its media.

    Raises:
        UnsupportedMedia: it has no (whole) index, or one that is too large.
    """
    media: int | None = None
    position, ahead, at = 0, b"", 0
    for _ in range(_MOST_BOXES):
        if not at <= position <= at + len(ahead) - 16:
            ahead, at = await _read(opens, position, min(_AHEAD, size - position)), position
        head = ahead[position - at :][:16]
        if len(head) < 8:
            break
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        length = length or size - position
        end = position + length
        if length < 8 or (name == b"moov" and end > size):
            break
        if name == b"moov":
            if media is None:
                return (range(size),)
            if length > _MOST_INDEX:
                raise UnsupportedMedia(f"the video's index has {length} bytes, more than is read")
            index = bytearray(await _read(opens, position, length))
            await asyncio.to_thread(_shift_offsets, index, range(media, position))
            return (range(media), bytes(index), range(media, position), range(end, size))
        if name == b"mdat" and media is None:
            media = position
        position = end
        if position >= size:
            break
    raise UnsupportedMedia("the video is damaged or truncated: it has no index")


class ReorderedSource:
    """The bytes of the pieces, one after another. Fits ``streams.base.Source``; left with ``aclose``."""

    def __init__(self, opens: OpenRange, order: Sequence[Piece]) -> None:
        self.size: int | None = sum(map(len, order))
        self._opens = opens
        self._waiting = list(reversed(order))
        self._words = memoryview(b"")
        self._source: Source | None = None
        self._stack = AsyncExitStack()

    async def read_into(self, buffer: memoryview, /) -> int:
        while True:
            if self._words:
                count = min(len(buffer), len(self._words))
                buffer[:count], self._words = self._words[:count], self._words[count:]
                return count
            if self._source is not None and (count := await self._source.read_into(buffer)):
                return count
            await self.aclose()
            if not self._waiting:
                return 0
            match self._waiting.pop():
                case bytes() as piece:
                    self._words = memoryview(piece)
                case piece if piece:
                    opened = self._opens(offset=piece.start, length=len(piece))
                    self._source = await self._stack.enter_async_context(opened)

    async def aclose(self) -> None:
        """Let go of what is open; the store is not left to send what nobody takes."""
        self._source = None
        await self._stack.aclose()


async def _read(opens: OpenRange, offset: int, length: int) -> bytes:
    data = memoryview(bytearray(length))
    done = 0
    async with aclosing(ReorderedSource(opens, [range(offset, offset + length)])) as source:
        while done < length and (count := await source.read_into(data[done:])):
            done += count
    return bytes(data[:done])


def _shift_offsets(index: bytearray, media: range) -> None:
    """Add the length of ``index`` to every place in ``media`` that it names. Raises UnsupportedMedia."""
    by = len(index)
    waiting = [range(by)]
    while waiting:
        box = waiting.pop()
        position = box.start
        while position + 8 <= box.stop:
            length, name = (
                int.from_bytes(index[position : position + 4], "big"),
                bytes(index[position + 4 : position + 8]),
            )
            begin = position + 8
            if length == 1:
                length, begin = int.from_bytes(index[begin : begin + 8], "big"), begin + 8
            end = position + length if length else box.stop
            if not begin <= end <= box.stop:
                break  # FFmpeg says what it thinks of such an index
            if name in _CONTAINERS:
                waiting.append(range(begin, end))
            elif name in _OFFSET_TABLES:
                _shift_table(index, range(begin + 8, end), _OFFSET_TABLES[name], media, by)
            position = end


def _shift_table(index: bytearray, table: range, kind: str, media: range, by: int) -> None:
    width = array(kind).itemsize
    offsets = array(kind, index[table.start : table.start + len(table) // width * width])
    swapped = sys.byteorder == "little"
    if swapped:
        offsets.byteswap()
    try:
        moved = array(kind, [place + by if place in media else place for place in offsets])
    except OverflowError:
        raise UnsupportedMedia(
            "the video's index follows more than 4 GiB of media and cannot be moved to the front"
        ) from None
    if swapped:
        moved.byteswap()
    index[table.start : table.start + len(moved) * width] = moved.tobytes()
