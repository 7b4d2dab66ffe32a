"""What containers that images, videos and sounds share hold, told by the tracks and brands in their first bytes.

Each function gives the media types that the bytes allow, the likeliest first. Several are left where the list of tracks
lies beyond the first bytes; then what is declared decides between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

Types: TypeAlias = tuple[str, ...]

_IMAGE_BRANDS: Final = {
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "image/heic"),
    b"crx ": "image/x-canon-cr3",
}
_GENERIC_IMAGE_BRANDS: Final = frozenset(
    {b"mif1", b"mif2", b"mif3", b"msf1", b"miaf", b"MiHB", b"MiHE", b"MiAB", b"MiHA", b"MA1B", b"MA1A"}
    | {b"jpeg", b"jpgs", b"avci", b"avcs", b"vvic", b"vvis", b"evbi", b"evmi", b"j2ki", b"j2is", b"1pic"}
)
_AUDIO_BRANDS: Final = frozenset({b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B "})
_MAX_BRANDS: Final = 64

_TRACKS: Final = b"\x16\x54\xae\x6b"
_SEGMENT: Final = b"\x18\x53\x80\x67"
_VIDEO_GUID: Final = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")
_AUDIO_GUID: Final = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")


def iso_media(head: bytes) -> Types:
    """Of a file of ISO/IEC 14496-12 that begins with a box: its brands, then its tracks."""
    name = head[4:8]
    if name != b"ftyp":
        return _by_tracks(head, "video/mp4" if name in (b"styp", b"sidx", b"moof") else "video/quicktime")
    major, *compatible = _brands(head)
    if major in _IMAGE_BRANDS:
        return (_IMAGE_BRANDS[major],)
    if major in _GENERIC_IMAGE_BRANDS:
        return (next((_IMAGE_BRANDS[brand] for brand in compatible if brand in _IMAGE_BRANDS), "image/heif"),)
    if major in _AUDIO_BRANDS:
        return ("audio/mp4",)
    return _by_tracks(head, "video/quicktime" if major == b"qt  " else "video/mp4")


def _brands(head: bytes) -> list[bytes]:
    size = min(int.from_bytes(head[:4], "big"), len(head), 16 + 4 * _MAX_BRANDS)
    return [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]


def _by_tracks(head: bytes, video: str) -> Types:
    handlers: set[bytes] = set()
    known = False
    for name, data, whole in boxes(head):
        if name == b"moov":
            known = whole
            handlers = {handler for trak, inner, _ in boxes(data) if trak == b"trak" for handler in _handlers(inner)}
    if b"vide" in handlers:
        return (video,)
    if known and b"soun" in handlers:
        return ("audio/mp4",)
    return (video,) if known else (video, "audio/mp4")


def _handlers(trak: bytes) -> Iterator[bytes]:
    for name, data, _ in boxes(trak):
        if name == b"mdia":
            yield from (inner[8:12] for kind, inner, _ in boxes(data) if kind == b"hdlr")


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Name and content of the boxes that begin in ``data``, and whether all of the content is there."""
    at = 0
    while at + 8 <= len(data):
        size, name, begin = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, begin = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = len(data) if size == 0 else at + size
        if end < at + begin:
            return
        yield name, data[at + begin : end], end <= len(data)
        at = end


def matroska(head: bytes) -> Types:
    """Of a file of RFC 9559: its document type, then its tracks."""
    elements = ebml(head)
    first = next(elements, None)
    doctype = b"" if first is None else next((data for name, data, _ in ebml(first[1]) if name == b"\x42\x82"), b"")
    kind = "webm" if doctype.rstrip(b"\0") == b"webm" else "x-matroska"
    tracks: set[int] = set()
    known = False
    for segment, inside, _ in elements:
        if segment != _SEGMENT:
            continue
        for name, data, whole in ebml(inside):
            if name == _TRACKS:
                known = whole
                tracks = {
                    number for entry, track, _ in ebml(data) if entry == b"\xae" for number in _track_types(track)
                }
    if 1 in tracks:
        return (f"video/{kind}",)
    if known and 2 in tracks:
        return (f"audio/{kind}",)
    return (f"video/{kind}",) if known else (f"video/{kind}", f"audio/{kind}")


def _track_types(track: bytes) -> Iterator[int]:
    return (int.from_bytes(data, "big") for name, data, _ in ebml(track) if name == b"\x83")


def ebml(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Name and content of the elements that begin in ``data`` (RFC 8794), and whether all of the content is there.

    One of unknown length holds all that follows.
    """
    at = 0
    while at < len(data):
        width = 9 - data[at].bit_length()
        name, at = data[at : at + width], at + width
        if width > 4 or at >= len(data):
            return
        width = 9 - data[at].bit_length()
        if width > 8 or at + width > len(data):
            return
        mask = (1 << 7 * width) - 1
        size, at = int.from_bytes(data[at : at + width], "big") & mask, at + width
        end = len(data) if size == mask else at + size
        yield name, data[at:end], end <= len(data)
        at = end


def ogg(head: bytes) -> Types:
    """Of a file of RFC 3533: by the first packets of its streams, which all come first."""
    at = 0
    while head[at : at + 4] == b"OggS" and len(head) > at + 27 and head[at + 5] & 2:
        lengths = head[at + 27 : at + 27 + head[at + 26]]
        start = at + 27 + head[at + 26]
        packet = head[start : start + sum(lengths)]
        if packet.startswith((b"\x80theora", b"\x01video", b"BBCD", b"OVP80")):
            return ("video/ogg",)
        at = start + sum(lengths)
    return ("audio/ogg",)


def asf(head: bytes) -> Types:
    """Of Windows Media: by the streams that the header object describes."""
    if _VIDEO_GUID in head:
        return ("video/x-ms-asf",)
    whole = int.from_bytes(head[16:24], "little") <= len(head)
    return ("audio/x-ms-wma",) if whole and _AUDIO_GUID in head else ("video/x-ms-asf", "audio/x-ms-wma")
