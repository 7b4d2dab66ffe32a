"""What the heads of media files say of their width, height and duration, format by format.

A reading is a generator: it yields what bytes it wants, gets them, and notes what it learns in a ``Shape``. Width and
height are those of the coded pixels, before any rotation or stretching that a player applies.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, TypeAlias

from mediagen.streams.base import KIB
from mediagen.streams.containers import boxes, ebml

_MAX_SIDE: Final = 1 << 20
_MAX_SECONDS: Final = 10 * 366 * 86_400.0
"""More is a head that nobody filled in."""


@dataclass(slots=True)
class Shape:
    """Pixels and seconds; None: not known. ``size`` in bytes is known at the end."""

    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    size: int = 0

    def frame(self, width: int, height: int) -> None:
        if 0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE:
            self.width, self.height = width, height

    def lasts(self, units: float, per_second: float) -> None:
        if units > 0 and per_second > 0 and units / per_second <= _MAX_SECONDS:
            self.duration_seconds = round(units / per_second, 3)


@dataclass(frozen=True, slots=True)
class Want:
    """``count`` bytes at ``offset``; or, with ``tail``, as many of the last bytes of the file as were seen."""

    offset: int
    count: int
    tail: bool = False


Reading: TypeAlias = Generator[Want, bytes, None]
_TAIL: Final = Want(0, 64 * KIB, tail=True)
_SIZE: Final = Want(0, 0, tail=True)
"""Nothing more, but to be asked once the size is known."""


def _be(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _le(data: bytes) -> int:
    return int.from_bytes(data, "little")


# -- pictures


def _png(shape: Shape) -> Reading:
    head = yield Want(16, 8)
    shape.frame(_be(head[:4]), _be(head[4:]))


def _gif(shape: Shape) -> Reading:
    head = yield Want(6, 4)
    shape.frame(_le(head[:2]), _le(head[2:]))


def _bmp(shape: Shape) -> Reading:
    head = yield Want(14, 12)
    if _le(head[:4]) == 12:
        shape.frame(_le(head[4:6]), _le(head[6:8]))
    else:
        width, height = struct.unpack("<ii", head[4:12])
        shape.frame(width, abs(height))


def _webp(shape: Shape) -> Reading:
    """RFC 9649."""
    head = yield Want(12, 18)
    if head[:4] == b"VP8X":
        shape.frame(_le(head[12:15]) + 1, _le(head[15:18]) + 1)
    elif head[:4] == b"VP8L":
        bits = _le(head[9:13])
        shape.frame((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    elif head[:4] == b"VP8 " and head[11:14] == b"\x9d\x01\x2a":
        shape.frame(_le(head[14:16]) & 0x3FFF, _le(head[16:18]) & 0x3FFF)


_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ALONE: Final = frozenset({0x01, 0xFF, *range(0xD0, 0xD9)})


def _jpeg(shape: Shape) -> Reading:
    """The first frame header (ITU-T T.81 annex B)."""
    at = 2
    while True:
        head = yield Want(at, 4)
        if head[0] != 0xFF or head[1] in (0xD9, 0xDA):
            return
        if head[1] in _ALONE:
            at += 1 if head[1] == 0xFF else 2
            continue
        if head[1] in _FRAMES:
            frame = yield Want(at + 5, 4)
            shape.frame(_be(frame[2:]), _be(frame[:2]))
            return
        at += 2 + max(2, _be(head[2:]))


def _heif(shape: Shape) -> Reading:
    """The extent of the primary item (ISO/IEC 23008-12), else the largest one."""
    at = 0
    while True:
        size, name, begin = yield from _box(at)
        if name == b"meta" or size < begin:
            break
        at += size
    if name != b"meta" or not begin + 4 < size <= 128 * KIB:
        return
    found = {kind: data for kind, data, _ in boxes((yield Want(at + begin + 4, size - begin - 4)))}
    parts = {kind: data for kind, data, _ in boxes(found.get(b"iprp", b""))}
    properties = [(kind, data) for kind, data, _ in boxes(parts.get(b"ipco", b""))]
    extents = [(_be(data[4:8]), _be(data[8:12])) if kind == b"ispe" else None for kind, data in properties]
    mine = _properties_of(found.get(b"pitm", b""), parts.get(b"ipma", b""))
    known = [extents[index - 1] for index in mine if 0 < index <= len(extents)]
    chosen = next((extent for extent in known if extent), None)
    chosen = chosen or max((extent for extent in extents if extent), default=None)
    if chosen:
        shape.frame(*chosen)


def _properties_of(pitm: bytes, ipma: bytes) -> list[int]:
    """Indexes from 1 of the properties of the primary item."""
    if len(pitm) < 6 or len(ipma) < 8:
        return []
    primary = _be(pitm[4:6]) if pitm[0] == 0 else _be(pitm[4:8])
    wide_id, wide_index = ipma[0] > 0, ipma[3] & 1
    at = 8
    for _ in range(min(_be(ipma[4:8]), 1000)):
        width = 4 if wide_id else 2
        item, count = _be(ipma[at : at + width]), _be(ipma[at + width : at + width + 1])
        at += width + 1
        step = 2 if wide_index else 1
        if item == primary:
            mask = 0x7FFF if wide_index else 0x7F
            return [_be(ipma[at + step * n : at + step * (n + 1)]) & mask for n in range(count)]
        at += step * count
    return []


# -- ISO media files


def _box(at: int) -> Generator[Want, bytes, tuple[int, bytes, int]]:
    """Size, name and length of the head of the box at ``at``; a size of 0 reaches to the end of the file."""
    head = yield Want(at, 8)
    size, name = _be(head[:4]), head[4:]
    if size == 1:
        return _be((yield Want(at + 8, 8))), name, 16
    return size, name, 8


def _mp4(shape: Shape) -> Reading:
    """The movie box, wherever it stands (ISO/IEC 14496-12)."""
    at = 0
    while True:
        size, name, begin = yield from _box(at)
        if name == b"moov":
            yield from _movie(shape, at + begin, at + size)
            return
        if size < begin:
            return
        at += size


def _movie(shape: Shape, at: int, end: int) -> Reading:
    scale = 0
    while at + 8 <= end:
        size, name, begin = yield from _box(at)
        if size < begin:
            return
        if name == b"mvhd":
            data = yield Want(at + begin, 32)
            scale, units = _times(data, 12)
            shape.lasts(units, scale)
        elif name == b"trak":
            yield from _track(shape, at + begin, at + size)
        elif name == b"mvex" and shape.duration_seconds is None and size <= 4 * KIB:
            for kind, data, _ in boxes((yield Want(at + begin, size - begin))):
                if kind == b"mehd":
                    shape.lasts(_be(data[4:12] if data[:1] == b"\1" else data[4:8]), scale)
        at += size


def _times(data: bytes, version_0: int) -> tuple[int, int]:
    """Time scale and duration of a movie or media header."""
    if data[0] == 1:
        return _be(data[20:24]), _unfilled(data[24:32])
    return _be(data[version_0 : version_0 + 4]), _unfilled(data[version_0 + 4 : version_0 + 8])


def _unfilled(data: bytes) -> int:
    return 0 if data == b"\xff" * len(data) else _be(data)


_INSIDE: Final = frozenset({b"mdia", b"minf", b"stbl"})


def _track(shape: Shape, at: int, end: int) -> Reading:
    """The frame size of the first film track: in the sample description, which comes before all long tables."""
    is_film = False
    ends = [end]
    while ends:
        if at + 8 > ends[-1]:
            at = ends.pop()
            continue
        size, name, begin = yield from _box(at)
        if size < begin:
            return
        if name in _INSIDE:
            ends.append(at + size)
            at += begin
            continue
        if name == b"hdlr" and len(ends) == 2:  # QuickTime has another one further in
            is_film = (yield Want(at + begin + 8, 4)) == b"vide"
        elif name == b"stsd" and is_film and shape.width is None and size >= begin + 44:
            entry = yield Want(at + begin + 8, 36)
            shape.frame(_be(entry[32:34]), _be(entry[34:36]))
        at += size


# -- Matroska


def _matroska(shape: Shape) -> Reading:
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
            data = yield Want(at, size)
            (_info if name == b"\x15\x49\xa9\x66" else _tracks)(shape, data)
        at += size


def _element(at: int) -> Generator[Want, bytes, tuple[bytes, int | None, int]]:
    """Name, length and place of the content of the element at ``at``; an empty name: it is none."""
    first = yield Want(at, 1)
    width = 9 - first[0].bit_length()
    if width > 4:
        return b"", None, at
    head = yield Want(at, width + 1)
    more = 9 - head[width].bit_length()
    if more > 8:
        return b"", None, at
    mask = (1 << 7 * more) - 1
    size = _be((yield Want(at + width, more))) & mask
    return head[:width], None if size == mask else size, at + width + more


def _info(shape: Shape, data: bytes) -> None:
    found = {name: content for name, content, _ in ebml(data)}
    scale = _be(found.get(b"\x2a\xd7\xb1", b"")) or 1_000_000
    length = found.get(b"\x44\x89", b"")
    if len(length) in (4, 8):
        (units,) = struct.unpack(">f" if len(length) == 4 else ">d", length)
        shape.lasts(units, 1e9 / scale)


def _tracks(shape: Shape, data: bytes) -> None:
    for entry, track, _ in ebml(data):
        film = next((inside for name, inside, _ in ebml(track) if entry == b"\xae" and name == b"\xe0"), None)
        if film is not None:
            found = {name: _be(content) for name, content, _ in ebml(film)}
            shape.frame(found.get(b"\xb0", 0), found.get(b"\xba", 0))
            return


# -- sounds


def _wav(shape: Shape) -> Reading:
    """The bytes of the sound by those of a second; where the first are not filled in, all up to the end."""
    at, rate, long_size = 12, 0, 0
    while True:
        head = yield Want(at, 8)
        size = _le(head[4:])
        if head[:4] == b"ds64":
            long_size = _le((yield Want(at + 16, 8)))
        elif head[:4] == b"fmt ":
            rate = _le((yield Want(at + 16, 4)))
        elif head[:4] == b"data":
            break
        at += 8 + size + size % 2
    yield _SIZE
    left = shape.size - at - 8
    size = long_size if size == 0xFFFFFFFF and long_size else size
    shape.lasts(size if 0 < size <= left else left, rate)


def _aiff(shape: Shape) -> Reading:
    at = 12
    while True:
        head = yield Want(at, 8)
        size = _be(head[4:])
        if head[:4] == b"COMM":
            data = yield Want(at + 10, 16)
            exponent, mantissa = _be(data[6:8]) & 0x7FFF, _be(data[8:16])
            shape.lasts(_be(data[:4]), mantissa * 2.0 ** (exponent - 16446))
            return
        at += 8 + size + size % 2


def _flac(shape: Shape) -> Reading:
    """STREAMINFO (RFC 9639)."""
    data = yield Want(18, 8)
    bits = _be(data)
    shape.lasts(bits & 0xFFFFFFFFF, bits >> 44)


_RATES: Final = ((11_025, 12_000, 8_000), (0, 0, 0), (22_050, 24_000, 16_000), (44_100, 48_000, 32_000))
_BITRATES: Final = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_LOOKED_AT: Final = 16


def _mp3(shape: Shape) -> Reading:
    """The number of frames in the first one (Xing, Info, VBRI); else, where all are alike, the bit rate."""
    at = 0
    while (head := (yield Want(at, 10)))[:3] == b"ID3":
        length = (head[6] & 127) << 21 | (head[7] & 127) << 14 | (head[8] & 127) << 7 | head[9] & 127
        at += 10 + length + (10 if head[5] & 16 else 0)
    start, rates = at, set[int]()
    for number in range(_LOOKED_AT):
        head = yield Want(at, 4)
        if head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # layer III
            return
        version, bitrate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
        hertz = 0 if rate == 3 else _RATES[version][rate]
        kilobits = _BITRATES[3 if version == 3 else 2][bitrate]
        if not hertz or not kilobits:
            return
        samples = 1152 if version == 3 else 576
        if number == 0:
            mono = head[3] >> 6 == 3
            side = ((17 if mono else 32) if version == 3 else (9 if mono else 17)) + (0 if head[1] & 1 else 2)
            first = yield Want(at + 4, 4 + 32 + 18)
            tag = first[side : side + 4]
            if tag in (b"Xing", b"Info") and first[side + 7] & 1:
                shape.lasts(_be(first[side + 8 : side + 12]) * samples, hertz)
                return
            if first[32:36] == b"VBRI":
                shape.lasts(_be(first[46:50]) * samples, hertz)
                return
        rates.add(kilobits)
        at += samples // 8 * kilobits * 1000 // hertz + (head[2] >> 1 & 1)
    if len(rates) == 1:
        yield _SIZE
        shape.lasts((shape.size - start) * 8, rates.pop() * 1000)


def _ogg(shape: Shape) -> Reading:
    """The position in the last page of a stream, in the units of its codec (RFC 3533, 7845; Vorbis I, Theora)."""
    head = yield Want(0, 27)
    serial, count = head[14:18], head[26]
    packet = yield Want(27 + count, 64)
    per_second, skipped, shift = 0.0, 0, 0
    if packet[1:7] == b"vorbis":
        per_second = _le(packet[12:16])
    elif packet[:8] == b"OpusHead":
        per_second, skipped = 48_000.0, _le(packet[10:12])
    elif packet[1:5] == b"FLAC":
        per_second = _be(packet[27:30]) >> 4
    elif packet[:8] == b"Speex   ":
        per_second = _le(packet[36:40])
    elif packet[1:7] == b"theora":
        shape.frame(_be(packet[14:17]), _be(packet[17:20]))
        per_second = _be(packet[22:26]) / max(1, _be(packet[26:30]))
        shift = _be(packet[40:42]) >> 5 & 31
    tail = yield _TAIL
    at = len(tail)
    while (at := tail.rfind(b"OggS", 0, at)) >= 0:
        page = tail[at : at + 27]
        granule = _le(page[6:14])
        if len(page) == 27 and page[14:18] == serial and granule != 0xFFFFFFFFFFFFFFFF:
            frames = (granule >> shift) + (granule & (1 << shift) - 1) if shift else granule - skipped
            shape.lasts(frames, per_second)
            return


READINGS: Final[dict[str, Callable[[Shape], Reading]]] = {
    "image/png": _png,
    "image/gif": _gif,
    "image/bmp": _bmp,
    "image/webp": _webp,
    "image/jpeg": _jpeg,
    **dict.fromkeys(("image/avif", "image/heic", "image/heif"), _heif),
    **dict.fromkeys(("video/mp4", "video/quicktime", "audio/mp4"), _mp4),
    **dict.fromkeys(("video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska"), _matroska),
    "audio/wav": _wav,
    "audio/aiff": _aiff,
    "audio/flac": _flac,
    "audio/mpeg": _mp3,
    **dict.fromkeys(("audio/ogg", "video/ogg"), _ogg),
}
"""Readings by media type, as ``streams.sniff`` names them."""
