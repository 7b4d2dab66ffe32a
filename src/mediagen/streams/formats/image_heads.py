"""Where the formats of images say their width and height."""

from __future__ import annotations

import struct
from typing import Final

from mediagen.streams.base import KIB
from mediagen.streams.formats.containers import boxes
from mediagen.streams.formats.dimensions import ByteRequest, Dimensions, HeadParser, be, box_at, le


def png(shape: Dimensions) -> HeadParser:
    head = yield ByteRequest(16, 8)
    shape.set_size(be(head[:4]), be(head[4:]))


def gif(shape: Dimensions) -> HeadParser:
    head = yield ByteRequest(6, 4)
    shape.set_size(le(head[:2]), le(head[2:]))


def bmp(shape: Dimensions) -> HeadParser:
    head = yield ByteRequest(14, 12)
    if le(head[:4]) == 12:
        shape.set_size(le(head[4:6]), le(head[6:8]))
    else:
        width, height = struct.unpack("<ii", head[4:12])
        shape.set_size(width, abs(height))


def webp(shape: Dimensions) -> HeadParser:
    """RFC 9649."""
    head = yield ByteRequest(12, 18)
    if head[:4] == b"VP8X":
        shape.set_size(le(head[12:15]) + 1, le(head[15:18]) + 1)
    elif head[:4] == b"VP8L":
        bits = le(head[9:13])
        shape.set_size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    elif head[:4] == b"VP8 " and head[11:14] == b"\x9d\x01\x2a":
        shape.set_size(le(head[14:16]) & 0x3FFF, le(head[16:18]) & 0x3FFF)


_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ALONE: Final = frozenset({0x01, 0xFF, *range(0xD0, 0xD9)})


def jpeg(shape: Dimensions) -> HeadParser:
    """The first frame header (ITU-T T.81 annex B)."""
    at = 2
    while True:
        head = yield ByteRequest(at, 4)
        if head[0] != 0xFF or head[1] in (0xD9, 0xDA):
            return
        if head[1] in _ALONE:
            at += 1 if head[1] == 0xFF else 2
            continue
        if head[1] in _FRAMES:
            frame = yield ByteRequest(at + 5, 4)
            shape.set_size(be(frame[2:]), be(frame[:2]))
            return
        at += 2 + max(2, be(head[2:]))


def heif(shape: Dimensions) -> HeadParser:
    """The extent of the primary item (ISO/IEC 23008-12), else the largest one."""
    at = 0
    while True:
        size, name, begin = yield from box_at(at)
        if name == b"meta" or size < begin:
            break
        at += size
    if name != b"meta" or not begin + 4 < size <= 128 * KIB:
        return
    found = {kind: data for kind, data, _ in boxes((yield ByteRequest(at + begin + 4, size - begin - 4)))}
    parts = {kind: data for kind, data, _ in boxes(found.get(b"iprp", b""))}
    properties = [(kind, data) for kind, data, _ in boxes(parts.get(b"ipco", b""))]
    extents = [(be(data[4:8]), be(data[8:12])) if kind == b"ispe" else None for kind, data in properties]
    mine = _properties_of(found.get(b"pitm", b""), parts.get(b"ipma", b""))
    known = [extents[index - 1] for index in mine if 0 < index <= len(extents)]
    chosen = next((extent for extent in known if extent), None)
    chosen = chosen or max((extent for extent in extents if extent), default=None)
    if chosen:
        shape.set_size(*chosen)


def _properties_of(pitm: bytes, ipma: bytes) -> list[int]:
    """Indexes from 1 of the properties of the primary item."""
    if len(pitm) < 6 or len(ipma) < 8:
        return []
    primary = be(pitm[4:6]) if pitm[0] == 0 else be(pitm[4:8])
    wide_id, wide_index = ipma[0] > 0, ipma[3] & 1
    at = 8
    for _ in range(min(be(ipma[4:8]), 1000)):
        width = 4 if wide_id else 2
        item, count = be(ipma[at : at + width]), be(ipma[at + width : at + width + 1])
        at += width + 1
        step = 2 if wide_index else 1
        if item == primary:
            mask = 0x7FFF if wide_index else 0x7F
            return [be(ipma[at + step * n : at + step * (n + 1)]) & mask for n in range(count)]
        at += step * count
    return []
