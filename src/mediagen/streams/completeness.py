"""Is a file whole? Asked only where no length was announced, of formats that say where they end.

An answer that ends with its connection looks the same whether the server finished or died half-way. PNG, JPEG,
GIF, RIFF and ISO media files (MP4) carry their own end; what carries none cannot be judged. Each format is walked by
its structure: an end marker alone would be found in the thumbnail inside a picture, and missed before a long trailer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, TypeAlias

from mediagen.core.errors import SourceTruncated
from mediagen.streams.base import Source, View, take_from


@dataclass(frozen=True, slots=True)
class _Step:
    """What a walk asks for next: so many bytes to look at, or to pass over, or all up to the next marker."""

    take: int = 0
    skip: int = 0
    marker: re.Pattern[bytes] | None = None
    """A pattern of two bytes."""
    ended: bool | None = False
    """The verdict if the file ends before this is done."""


_Walk: TypeAlias = Generator[_Step, bytes, bool | None]
"""Its result is the verdict, whatever follows."""


class Completeness:
    """Watches bytes go by: ``feed`` them, then ask for the ``verdict``."""

    def __init__(self, media_type: str) -> None:
        make = _WALKS.get(media_type)
        self._walk = None if make is None else make()
        self._step = _Step() if self._walk is None else next(self._walk)
        self._taken = b""
        self._passed = 0
        self._verdict: bool | None = None

    @property
    def verdict(self) -> bool | None:
        """True: whole. False: cut short. None: this format does not tell."""
        return self._verdict if self._walk is None else self._step.ended

    def feed(self, chunk: View) -> None:
        view = memoryview(chunk)
        while self._walk is not None and view:
            step = self._step
            if step.skip:
                count = min(step.skip - self._passed, len(view))
                self._passed += count
                view = view[count:]
                if self._passed == step.skip:
                    self._advance(b"")
            elif step.marker is not None:
                view = self._seek(step.marker, view)
            else:
                count = min(step.take - len(self._taken), len(view))
                self._taken += bytes(view[:count])
                view = view[count:]
                if len(self._taken) == step.take:
                    self._advance(self._taken)

    def _seek(self, marker: re.Pattern[bytes], view: memoryview) -> memoryview:
        """What follows the marker; a first half of it at the end of a chunk is kept for the next one."""
        across = self._taken + bytes(view[:1])
        if marker.match(across):
            self._advance(across)
            return view[1:]
        if (found := marker.search(view)) is not None:
            self._advance(found[0])
            return view[found.end() :]
        self._taken = bytes(view[-1:])
        return view[:0]

    def _advance(self, data: bytes) -> None:
        assert self._walk is not None
        self._taken, self._passed = b"", 0
        try:
            self._step = self._walk.send(data)
            while not (self._step.take or self._step.skip or self._step.marker):  # nothing to pass over
                self._step = self._walk.send(b"")
        except StopIteration as end:
            self._walk, self._verdict = None, end.value


def _png() -> _Walk:
    """Chunks up to IEND (W3C PNG section 5)."""
    if (yield _Step(take=8)) != b"\x89PNG\r\n\x1a\n":
        return None
    while True:
        head = yield _Step(take=8)
        if not head[4:].isalpha():
            return None
        yield _Step(skip=int.from_bytes(head[:4], "big") + 4)
        if head[4:] == b"IEND":
            return True


_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})


def _jpeg() -> _Walk:
    """Segments, and scans between them, up to EOI (ITU-T T.81 annex B)."""
    if (yield _Step(take=2)) != b"\xff\xd8":
        return None
    marker = yield _Step(take=2)
    while marker[0] == 0xFF:
        if marker[1] == 0xFF:  # filling
            marker = b"\xff" + (yield _Step(take=1))
            continue
        if marker[1] == 0xD9:
            return True
        if marker[1] in _ALONE:
            marker = yield _Step(take=2)
            continue
        length = int.from_bytes((yield _Step(take=2)), "big")
        if length < 2:
            return None
        yield _Step(skip=length - 2)
        marker = yield (_Step(marker=_JPEG_MARKER) if marker[1] == 0xDA else _Step(take=2))
    return None


def _gif() -> _Walk:
    """Blocks up to the trailer (GIF89a, appendix A)."""
    head = yield _Step(take=13)
    if head[:4] != b"GIF8":
        return None
    yield _Step(skip=_palette(head[10]))
    while True:
        match (yield _Step(take=1)):
            case b"\x3b":
                return True
            case b"\x21":
                blocks = yield _Step(take=2)
            case b"\x2c":
                described = yield _Step(take=9)
                yield _Step(skip=_palette(described[8]))
                blocks = yield _Step(take=2)
            case b"\x00":  # an empty block too many, as some programs write
                continue
            case _:
                return None
        while blocks[-1]:
            blocks = yield _Step(take=blocks[-1] + 1)


def _palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _riff() -> _Walk:
    """The length in the head; a long AVI is several of them."""
    head = yield _Step(take=8)
    while head[:4] == b"RIFF":
        size = int.from_bytes(head[4:], "little")
        if size in (0, 0xFFFFFFFF):  # written by a program that could not seek back
            return None
        form = yield _Step(take=4)
        yield _Step(skip=max(0, size - 4))
        if form[:3] != b"AVI":
            return True
        head = yield _Step(take=4, ended=True)
        if head == b"RIFF":
            head += yield _Step(take=4)
        else:
            return True
    return None


_FIRST_BOXES: Final = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})


def _boxes() -> _Walk:
    """Boxes one after another (ISO/IEC 14496-12). No box says that it is the last; some must be there."""
    seen: set[bytes] = set()
    name = b""
    while True:
        first = yield _Step(take=1, ended=False if name == b"moof" else _has_all(seen))
        head = first + (yield _Step(take=7))
        size, name = int.from_bytes(head[:4], "big"), head[4:]
        if not seen and name not in _FIRST_BOXES:
            return None
        length = 8
        if size == 1:
            size, length = int.from_bytes((yield _Step(take=8)), "big"), 16
        if size < length or not name.isascii():  # to the end of the file, or not a box: no verdict
            return None
        yield _Step(skip=size - length)
        seen.add(name)


def _has_all(seen: set[bytes]) -> bool | None:
    """Whether a file of these boxes has what it needs; of fragments, or beside pictures, more might have followed."""
    if b"moof" in seen and b"mfra" not in seen:
        return None if b"mdat" in seen else False
    if b"mdat" in seen and (b"moov" in seen or b"meta" in seen):
        return True
    return None if b"meta" in seen and b"moov" not in seen else False


_WALKS: Final[dict[str, Callable[[], _Walk]]] = {
    "image/png": _png,
    "image/jpeg": _jpeg,
    "image/gif": _gif,
    "image/webp": _riff,
    "audio/wav": _riff,
    "video/x-msvideo": _riff,
    **dict.fromkeys(
        ("video/mp4", "video/quicktime", "audio/mp4", "image/avif", "image/heic", "image/heif"),
        _boxes,
    ),
}


class Whole:
    """A source of unknown length whose end is believed only when its format agrees."""

    def __init__(self, source: Source, media_type: str) -> None:
        self.size = source.size
        self._source = source
        self._watch = Completeness(media_type)

    async def read_into(self, buffer: memoryview, /) -> int:
        count = await self._source.read_into(buffer)
        if count:
            self._watch.feed(buffer[:count])
        elif self._watch.verdict is False:
            raise SourceTruncated("the source ended before the end of the file it was sending")
        return count

    def take(self, buffer: memoryview, /, *, within: float) -> int:
        count = take_from(self._source, buffer, within=within)
        self._watch.feed(buffer[:count])
        return count
