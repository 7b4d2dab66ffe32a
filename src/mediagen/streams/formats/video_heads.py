"""Where ISO media files (MP4, MOV) and Matroska (WebM) say their width, height and duration."""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import Final

from mediagen.streams.base import KIB
from mediagen.streams.formats.containers import boxes, ebml
from mediagen.streams.formats.dimensions import ByteRequest, Dimensions, HeadParser, be, box_at


def mp4(shape: Dimensions) -> HeadParser:
    """The movie box, wherever it stands (ISO/IEC 14496-12)."""
    at = 0
    while True:
        size, name, begin = yield from box_at(at)
        if name == b"moov":
            yield from _movie(shape, at + begin, at + size)
            return
        if size < begin:
            return
        at += size


def _movie(shape: Dimensions, at: int, end: int) -> HeadParser:
    scale = 0
    while at + 8 <= end:
        size, name, begin = yield from box_at(at)
        if size < begin:
            return
        if name == b"mvhd":
            data = yield ByteRequest(at + begin, 32)
            scale, units = _times(data, 12)
            shape.set_duration(units, scale)
        elif name == b"trak":
            yield from _track(shape, at + begin, at + size)
        elif name == b"mvex" and shape.duration_seconds is None and size <= 4 * KIB:
            for kind, data, _ in boxes((yield ByteRequest(at + begin, size - begin))):
                if kind == b"mehd":
                    shape.set_duration(be(data[4:12] if data[:1] == b"\1" else data[4:8]), scale)
        at += size


def _times(data: bytes, version_0: int) -> tuple[int, int]:
    """Time scale and duration of a movie or media header."""
    if data[0] == 1:
        return be(data[20:24]), _unfilled(data[24:32])
    return be(data[version_0 : version_0 + 4]), _unfilled(data[version_0 + 4 : version_0 + 8])


def _unfilled(data: bytes) -> int:
    return 0 if data == b"\xff" * len(data) else be(data)


_INSIDE: Final = frozenset({b"mdia", b"minf", b"stbl"})


def _track(shape: Dimensions, at: int, end: int) -> HeadParser:
    """The frame size of the first video track: in the sample description, which comes before all long tables."""
    is_video = False
    ends = [end]
    while ends:
        if at + 8 > ends[-1]:
            at = ends.pop()
            continue
        size, name, begin = yield from box_at(at)
        if size < begin:
            return
        if name in _INSIDE:
            ends.append(at + size)
            at += begin
            continue
        if name == b"hdlr" and len(ends) == 2:  # QuickTime has another one further in
            is_video = (yield ByteRequest(at + begin + 8, 4)) == b"vide"
        elif name == b"stsd" and is_video and shape.width is None and size >= begin + 44:
            entry = yield ByteRequest(at + begin + 8, 36)
            shape.set_size(be(entry[32:34]), be(entry[34:36]))
        at += size


def matroska(shape: Dimensions) -> HeadParser:
    """Info and tracks, which come before the first cluster (RFC 9559)."""
    _, size, at = yield from _element(0)
    at += size or 0
    name, _, at = yield from _element(at)
    if name != b"\x18\x53\x80\x67":
        return
    while True:
        name, size, at = yield from _element(at)
        if name == b"\x1f\x43\xb6\x75" or size is None:
            return
        if name in (b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b") and 0 < size <= 128 * KIB:
            data = yield ByteRequest(at, size)
            (_info if name == b"\x15\x49\xa9\x66" else _tracks)(shape, data)
        at += size


def _element(at: int) -> Generator[ByteRequest, bytes, tuple[bytes, int | None, int]]:
    """Name, length and place of the content of the element at ``at``; an empty name: it is none."""
    first = yield ByteRequest(at, 1)
    width = 9 - first[0].bit_length()
    if width > 4:
        return b"", None, at
    head = yield ByteRequest(at, width + 1)
    more = 9 - head[width].bit_length()
    if more > 8:
        return b"", None, at
    mask = (1 << 7 * more) - 1
    size = be((yield ByteRequest(at + width, more))) & mask
    return head[:width], None if size == mask else size, at + width + more


def _info(shape: Dimensions, data: bytes) -> None:
    found = {name: content for name, content, _ in ebml(data)}
    scale = be(found.get(b"\x2a\xd7\xb1", b"")) or 1_000_000
    length = found.get(b"\x44\x89", b"")
    if len(length) in (4, 8):
        (units,) = struct.unpack(">f" if len(length) == 4 else ">d", length)
        shape.set_duration(units, 1e9 / scale)


def _tracks(shape: Dimensions, data: bytes) -> None:
    for entry, track, _ in ebml(data):
        video = next((inside for name, inside, _ in ebml(track) if entry == b"\xae" and name == b"\xe0"), None)
        if video is not None:
            found = {name: be(content) for name, content, _ in ebml(video)}
            shape.set_size(found.get(b"\xb0", 0), found.get(b"\xba", 0))
            return
