"""How file formats are walked from their beginning to where they end, by their structure, with bounded memory.

An end marker alone would be found in the thumbnail inside an image, and missed before a long trailer. A walk asks for
the bytes that it has to see and passes over the rest; its result is a verdict on whether the file is whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Step:
    """What a walk asks for next: so many bytes to look at, or to pass over, or all up to the next marker."""

    take: int = 0
    skip: int = 0
    marker: re.Pattern[bytes] | None = None
    """A pattern of two bytes."""
    ended: bool | None = False
    """The verdict if the file ends before this is done."""


Walk: TypeAlias = Generator[Step, bytes, bool | None]
"""Its result is the verdict, whatever follows."""


def _png() -> Walk:
    """Chunks up to IEND (W3C PNG section 5)."""
    if (yield Step(take=8)) != b"\x89PNG\r\n\x1a\n":
        return None
    while True:
        head = yield Step(take=8)
        if not head[4:].isalpha():
            return None
        yield Step(skip=int.from_bytes(head[:4], "big") + 4)
        if head[4:] == b"IEND":
            return True


_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})


def _jpeg() -> Walk:
    """Segments, and scans between them, up to EOI (ITU-T T.81 annex B)."""
    if (yield Step(take=2)) != b"\xff\xd8":
        return None
    marker = yield Step(take=2)
    while marker[0] == 0xFF:
        if marker[1] == 0xFF:  # filling
            marker = b"\xff" + (yield Step(take=1))
            continue
        if marker[1] == 0xD9:
            return True
        if marker[1] in _ALONE:
            marker = yield Step(take=2)
            continue
        length = int.from_bytes((yield Step(take=2)), "big")
        if length < 2:
            return None
        yield Step(skip=length - 2)
        marker = yield (Step(marker=_JPEG_MARKER) if marker[1] == 0xDA else Step(take=2))
    return None


def _gif() -> Walk:
    """Blocks up to the trailer (GIF89a, appendix A)."""
    head = yield Step(take=13)
    if head[:4] != b"GIF8":
        return None
    yield Step(skip=_palette(head[10]))
    while True:
        match (yield Step(take=1)):
            case b"\x3b":
                return True
            case b"\x21":
                blocks = yield Step(take=2)
            case b"\x2c":
                described = yield Step(take=9)
                yield Step(skip=_palette(described[8]))
                blocks = yield Step(take=2)
            case b"\x00":  # an empty block too many, as some programs write
                continue
            case _:
                return None
        while blocks[-1]:
            blocks = yield Step(take=blocks[-1] + 1)


def _palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


_UNFILLED: Final = (2_000_000_000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Lengths that programs write in advance and fill in afterwards, unless they write to a pipe; the head may be added."""


def _is_unfilled(size: int) -> bool:
    return size == 0 or any(abs(size - value) <= 256 for value in _UNFILLED)


def _riff() -> Walk:
    """The length in the head; a long AVI is several of them."""
    head = yield Step(take=8)
    if head[:4] in (b"RF64", b"BW64"):
        return (yield from _rf64())
    while head[:4] == b"RIFF":
        size = int.from_bytes(head[4:], "little")
        if _is_unfilled(size):  # written by a program that could not seek back
            return None
        form = yield Step(take=4)
        if form == b"WAVE":
            return (yield from _wave(size - 4))
        yield Step(skip=max(0, size - 4))
        if form[:3] != b"AVI":
            return True
        head = yield Step(take=4, ended=True)
        if head == b"RIFF":
            head += yield Step(take=4)
        else:
            return True
    return None


def _wave(left: int) -> Walk:
    """Chunks up to the length in the head, which may be wrong by a few bytes once the sound is there."""
    has_sound = False
    while left >= 8:
        head = yield Step(take=8, ended=has_sound)
        size = int.from_bytes(head[4:], "little")
        if head[:4] == b"data" and _is_unfilled(size) and size:
            return None
        yield Step(skip=size)
        has_sound = has_sound or head[:4] == b"data"
        if size % 2:
            yield Step(skip=1, ended=has_sound)
        left -= 8 + size + size % 2
    return True


def _rf64() -> Walk:
    """A WAV of more than 4 GiB: its lengths are in the first chunk (EBU Tech 3306)."""
    head = yield Step(take=20)
    size = int.from_bytes(head[12:20], "little")
    if head[4:8] != b"ds64" or size < 28 or size >= 1 << 62:
        return None
    yield Step(skip=size + 8 - 28)
    return True


def _aiff() -> Walk:
    """The length in the head (AIFF 1.3)."""
    head = yield Step(take=12)
    size = int.from_bytes(head[4:8], "big")
    if head[:4] != b"FORM" or _is_unfilled(size):
        return None
    yield Step(skip=max(0, size - 4))
    return True


def _caf() -> Walk:
    """Chunks; that of the sound may be without a length (Apple Core Audio Format)."""
    if (yield Step(take=8))[:4] != b"caff":
        return None
    has_sound = False
    while True:
        first = yield Step(take=1, ended=has_sound)
        head = first + (yield Step(take=11))
        size = int.from_bytes(head[4:], "big", signed=True)
        if size < 0:
            return None
        yield Step(skip=size)
        has_sound = has_sound or head[:4] == b"data"


def _au() -> Walk:
    """The length in the head, which may be unknown (Sun .au)."""
    head = yield Step(take=12)
    offset, size = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:], "big")
    if head[:4] != b".snd" or size == 0xFFFFFFFF or offset < 12:
        return None
    yield Step(skip=offset - 12 + size)
    return True


_BMP_SIZES: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


def _bmp() -> Walk:
    """Two heads, and as many rows as the second says; the file length in the first one is often wrong."""
    head = yield Step(take=26)
    offset, second = int.from_bytes(head[10:14], "little"), int.from_bytes(head[14:18], "little")
    if head[:2] != b"BM" or second not in _BMP_SIZES:
        return None
    if second == 12:
        width, height = int.from_bytes(head[18:20], "little"), int.from_bytes(head[20:22], "little")
        bits, compression, size = int.from_bytes(head[24:26], "little"), 0, 0
    else:
        more = yield Step(take=12)
        width = int.from_bytes(head[18:22], "little", signed=True)
        height = abs(int.from_bytes(head[22:26], "little", signed=True))
        bits, compression = int.from_bytes(more[2:4], "little"), int.from_bytes(more[4:8], "little")
        size = int.from_bytes(more[8:12], "little")
    if compression in (0, 6) or (compression == 3 and second != 64):
        size = (width * bits + 31) // 32 * 4 * height
    end = offset + size if size > 0 else int.from_bytes(head[2:6], "little")
    read = 26 if second == 12 else 38
    if end <= read:
        return None
    yield Step(skip=end - read)
    return True


def _ico() -> Walk:
    """The images that the head lists."""
    head = yield Step(take=6)
    count = int.from_bytes(head[4:], "little")
    if head[:4] != b"\x00\x00\x01\x00" or not count:
        return None
    read = end = 6 + 16 * count
    for _ in range(count):
        entry = yield Step(take=16)
        end = max(end, int.from_bytes(entry[8:12], "little") + int.from_bytes(entry[12:], "little"))
    yield Step(skip=end - read)
    return True


_Element: TypeAlias = tuple[bytes, int | None]
_EBML: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT: Final = b"\x18\x53\x80\x67"
_CLUSTER: Final = b"\x1f\x43\xb6\x75"
_FILLING: Final = frozenset({b"\xec", b"\xbf"})


def _matroska() -> Walk:
    """The length of the segment; where its writer could not know it, elements of known length (RFC 8794, 9559)."""
    head = yield from _element(ended=False)
    if head is None or head[0] != _EBML or head[1] is None:
        return None
    yield Step(skip=head[1])
    name = b""
    while name != _SEGMENT:
        element = yield from _element(ended=False)
        if element is None or element[0] not in (_SEGMENT, *_FILLING):
            return None
        name, size = element
        if size is None:
            return (yield from _live()) if name == _SEGMENT else None
        yield Step(skip=size)
    return True


def _live() -> Walk:
    """Clusters, whose lengths may be unknown too: then their blocks. Between two of them it may end."""
    ended: bool | None = False
    while True:
        element = yield from _element(ended=ended)
        if element is None:
            return None
        name, size = element
        if name == _CLUSTER:
            ended = None
            if size is None:
                continue
        if size is None:
            return None
        yield Step(skip=size)


def _element(*, ended: bool | None) -> Generator[Step, bytes, _Element | None]:
    """Name and length of the next element, None for an unknown length; None: this is no element."""
    name = yield Step(take=1, ended=ended)
    width = 9 - name[0].bit_length()
    if width > 4:
        return None
    name += yield Step(take=width - 1)
    first = yield Step(take=1)
    width = 9 - first[0].bit_length()
    if width > 8:
        return None
    mask = (1 << 7 * width) - 1
    size = int.from_bytes(first + (yield Step(take=width - 1)), "big") & mask
    return name, None if size == mask else size


def _ogg() -> Walk:
    """Pages (RFC 3533); the last one of each stream says so, unless its writer was stopped."""
    open_streams: set[bytes] = set()
    ended: bool | None = False
    while True:
        first = yield Step(take=1, ended=ended)
        head = first + (yield Step(take=26, ended=ended if ended else False))
        if head[:4] != b"OggS":
            return ended or None
        open_streams.add(head[14:18])
        lengths = yield Step(take=head[26])
        yield Step(skip=sum(lengths))
        if head[5] & 4:
            open_streams.discard(head[14:18])
        ended = None if open_streams else True


def _flv() -> Walk:
    """Tags of known length; none says that it is the last."""
    if (yield Step(take=13))[:3] != b"FLV":
        return None
    while True:
        first = yield Step(take=1, ended=None)
        if first not in (b"\x08", b"\x09", b"\x12"):
            return None
        head = yield Step(take=10)
        yield Step(skip=int.from_bytes(head[:3], "big") + 4)


_ASF_DATA: Final = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")


def _asf() -> Walk:
    """Objects; once that of the media is there, indexes may follow (Advanced Systems Format, section 2)."""
    ended = False
    while True:
        first = yield Step(take=1, ended=ended)
        head = first + (yield Step(take=23, ended=ended))
        size = int.from_bytes(head[16:], "little")
        if size < 24 or size >= 1 << 62:  # sent live
            return ended or None
        if head[:16] == _ASF_DATA and size <= 50:
            return None
        yield Step(skip=size - 24)
        ended = ended or head[:16] == _ASF_DATA


_FIRST_BOXES: Final = frozenset(
    {b"ftyp", b"styp", b"sidx", b"moov", b"moof", b"mdat", b"wide", b"free", b"skip", b"pnot", b"jP  ", b"JXL "}
)


def _boxes() -> Walk:
    """Boxes one after another (ISO/IEC 14496-12). No box says that it is the last; some must be there."""
    seen: set[bytes] = set()
    name = b""
    while True:
        first = yield Step(take=1, ended=False if name == b"moof" else _has_all(seen))
        head = first + (yield Step(take=7))
        size, name = int.from_bytes(head[:4], "big"), head[4:]
        if not seen and name not in _FIRST_BOXES:
            return None
        length = 8
        if size == 1:
            size, length = int.from_bytes((yield Step(take=8)), "big"), 16
        if size < length or not name.isascii():  # to the end of the file, or not a box: no verdict
            return None
        yield Step(skip=size - length)
        seen.add(name)


def _has_all(seen: set[bytes]) -> bool | None:
    """Whether a file of these boxes has what it needs; of fragments, or beside images, more might have followed."""
    if b"moof" in seen and b"mfra" not in seen:
        return None if b"mdat" in seen else False
    if b"mdat" in seen and (b"moov" in seen or b"meta" in seen):
        return True
    if b"jxlp" in seen:
        return None
    if b"jp2c" in seen or b"jxlc" in seen:
        return True
    return None if b"meta" in seen and b"moov" not in seen else False


WALKS: Final[dict[str, Callable[[], Walk]]] = {
    "image/png": _png,
    "image/jpeg": _jpeg,
    "image/gif": _gif,
    "image/webp": _riff,
    "image/bmp": _bmp,
    "image/x-icon": _ico,
    "audio/wav": _riff,
    "audio/aiff": _aiff,
    "audio/x-caf": _caf,
    "audio/basic": _au,
    "audio/ogg": _ogg,
    "video/ogg": _ogg,
    "video/x-msvideo": _riff,
    "video/x-flv": _flv,
    **dict.fromkeys(("video/x-ms-asf", "audio/x-ms-wma"), _asf),
    **dict.fromkeys(("video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska"), _matroska),
    **dict.fromkeys(("video/mp4", "video/quicktime", "audio/mp4"), _boxes),
    **dict.fromkeys(("image/avif", "image/heic", "image/heif", "image/x-canon-cr3", "image/jp2", "image/jxl"), _boxes),
}
"""Walks by media type, as ``streams.sniff`` names them."""
