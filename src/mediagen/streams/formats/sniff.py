"""What bytes are, told by the bytes (magic numbers), then by a declared type, then by a name.

The table holds what mediagen takes in. A source's declared type counts only where the bytes say nothing, or to decide
between the kinds that they allow, and never makes active content (HTML, SVG, XML) into something else.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

from mediagen.core.files import FileKind
from mediagen.streams.formats import containers
from mediagen.streams.formats.containers import Types

SNIFF_BYTES: Final = 4096
"""How many first bytes are enough."""

_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"MM\x00+", "image/tiff"),
    (b"IIRO", "image/x-olympus-orf"),
    (b"IIRS", "image/x-olympus-orf"),
    (b"IIU\x00", "image/x-panasonic-rw2"),
    (b"FUJIFILMCCD-RAW", "image/x-fuji-raf"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\x00\x00\x02\x00", "image/x-icon"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\xff\x4f\xff\x51", "image/x-j2c"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"gimp xcf", "image/x-xcf"),
    (b"v/1\x01", "image/x-exr"),
    (b"#?RADIANCE", "image/vnd.radiance"),
    (b"qoif", "image/qoi"),
    (b"icns", "image/icns"),
    (b"DDS |\x00\x00\x00", "image/vnd.ms-dds"),
    (b"\xff\x0a", "image/jxl"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"#!AMR-WB\n", "audio/amr-wb"),
    (b"#!AMR", "audio/amr"),
    (b"caff\x00\x01", "audio/x-caf"),
    (b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb", "audio/x-w64"),
    (b".snd\x00\x00", "audio/basic"),
    (b"MThd\x00\x00\x00\x06", "audio/midi"),
    (b"wvpk", "audio/x-wavpack"),
    (b"MAC \x96\x0f", "audio/x-ape"),
    (b"MPCK", "audio/x-musepack"),
    (b"MP+\x07", "audio/x-musepack"),
    (b"TTA1", "audio/x-tta"),
    (b"DSD \x1c\x00\x00\x00", "audio/x-dsf"),
    (b"FRM8\x00", "audio/x-dff"),
    (b"\x0b\x77", "audio/ac3"),
    (b"\x7f\xfe\x80\x01", "audio/vnd.dts"),
    (b"ADIF", "audio/aac"),
    (b".ra\xfd", "audio/x-pn-realaudio"),
    (b".RMF\x00\x00", "application/vnd.rn-realmedia"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01", "application/mxf"),
    (b"DKIF\x00\x00", "video/x-ivf"),
    (b"YUV4MPEG2 ", "video/x-yuv4mpeg"),
    (b"nut/multimedia container\x00", "video/x-nut"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"WEBVTT", "text/vtt"),
    (b"\xef\xbb\xbfWEBVTT", "text/vtt"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
)
_BMP_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""Lengths of a bitmap's second header; its two letters alone begin many a text."""
_RIFF: Final = {b"WEBP": "image/webp", b"AVI ": "video/x-msvideo", b"WAVE": "audio/wav"}
_ASF: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_BOXES: Final = frozenset({b"ftyp", b"styp", b"sidx", b"moov", b"moof", b"mdat", b"wide", b"free", b"skip", b"pnot"})
"""Names of boxes that a file of ISO/IEC 14496-12, or of QuickTime before it, may begin with."""
_PACKETS: Final = ((0, 188), (4, 192), (0, 204), (0, 208))
"""Where the first packet of a transport stream begins, and how long they are: MPEG-TS, M2TS, with error correction."""
_SYNC: Final = 0x47
_SRT: Final = re.compile(rb"\s*\d+\r?\n\d\d:\d\d:\d\d,\d\d\d --> ")
# Every repetition is possessive: what has matched is never tried another way, so no page costs more than its length.
_BEFORE: Final = rb"(?:\xef\xbb\xbf)?+\s*+(?:(?:<\?[a-z][^>]*+>|(?><!--.*?-->))\s*+)*+"
_SVG_DTD: Final = (
    rb"(?:<!doctype\s++svg\b[^>\[]*+(?:\[(?:[^\]\"']|\"[^\"]*+\"|'[^']*+')*+\][^>]*+)?+>" + _BEFORE[18:] + rb")?+"
)
_TAGS: Final = (
    rb"!doctype\s++html|html|head|body|script|iframe|h1|div|font|table|a|style|title|b|br|p"  # the list of WHATWG
    rb"|meta|link|base|form|img|object|embed"
)
_MARKUP: Final = (
    (re.compile(_BEFORE + _SVG_DTD + rb"<(?:[a-z][\w.-]*+:)?+svg[\s>/]", re.IGNORECASE | re.DOTALL), "image/svg+xml"),
    (re.compile(_BEFORE + rb"<(?:" + _TAGS + rb")[\s>/]", re.IGNORECASE | re.DOTALL), "text/html"),
    (re.compile(rb"(?:\xef\xbb\xbf)?+\s*+<\?xml\s", re.IGNORECASE), "application/xml"),
    (re.compile(rb"(?:\xef\xbb\xbf)?+\s*+<!--"), "text/html"),
)
_EXTENSIONS: Final = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".weba": "audio/webm",
    ".mka": "audio/x-matroska",
    ".wmv": "video/x-ms-asf",
    ".wma": "audio/x-ms-wma",
    ".ts": "video/mp2t",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".m4a": "audio/mp4",
    ".srt": "application/x-subrip",
    ".vtt": "text/vtt",
    ".json": "application/json",
    ".txt": "text/plain",
    ".pdf": "application/pdf",
    ".zip": "application/zip",
}
_SUFFIX: Final = {media_type: extension for extension, media_type in reversed(_EXTENSIONS.items())} | {
    "image/jpeg": ".jpg",
    "image/heic": ".heic",
    "image/heif": ".heif",
    "image/bmp": ".bmp",
    "image/tiff": ".tiff",
    "image/jxl": ".jxl",
    "image/svg+xml": ".svg",
    "image/x-icon": ".ico",
    "video/mpeg": ".mpg",
    "video/x-flv": ".flv",
    "audio/aac": ".aac",
    "audio/aiff": ".aiff",
    "audio/amr": ".amr",
    "audio/amr-wb": ".awb",
    "audio/x-caf": ".caf",
    "audio/ac3": ".ac3",
    "audio/basic": ".au",
    "audio/midi": ".mid",
    "image/jp2": ".jp2",
    "image/x-canon-cr3": ".cr3",
    "image/x-canon-cr2": ".cr2",
    "image/vnd.adobe.photoshop": ".psd",
    "application/mxf": ".mxf",
    "application/vnd.rn-realmedia": ".rm",
    "text/html": ".html",
    "application/xml": ".xml",
    "application/gzip": ".gz",
}
_SUBTITLES: Final = frozenset({"text/vtt", "application/x-subrip"})
_VIDEO_TYPES: Final = frozenset({"application/mxf", "application/vnd.rn-realmedia"})
_SILENT: Final = frozenset({"application/octet-stream", "binary/octet-stream", "application/binary", ""})
"""Declared types that say nothing."""


def sniff(head: bytes) -> str | None:
    """The media type that the first bytes show, the likeliest of several, or None."""
    types = possible(head)
    return types[0] if types else None


def possible(head: bytes) -> Types:
    """The media types that the first bytes allow, the likeliest first; none where they say nothing."""
    if head[4:8] in _BOXES and (head[:1] == b"\x00" or head[4:8] == b"ftyp"):
        return containers.iso_media(head)
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return (_RIFF[head[8:12]],)
    if head[:4] in (b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return ("audio/wav",)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return ("audio/aiff",)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return containers.matroska(head)
    if head[:4] == b"OggS":
        return containers.ogg(head)
    if head[:16] == _ASF:
        return containers.asf(head)
    if head[:4] == b"II*\x00" and head[8:10] == b"CR":
        return ("image/x-canon-cr2",)
    found = next((media_type for magic, media_type in _MAGIC if head.startswith(magic)), None) or _by_structure(head)
    return () if found is None else (found,)


def _by_structure(head: bytes) -> str | None:
    """What begins with no word of its own."""
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    if head[:1] == b"\xff" and len(head) > 3 and head[1] & 0xE0 == 0xE0:
        return _mpeg_audio(head)
    for first, length in _PACKETS:
        if len(head) > first + 2 * length and set(head[first::length]) == {_SYNC}:
            return "video/mp2t"
    if _SRT.match(head):
        return "application/x-subrip"
    return next((media_type for pattern, media_type in _MARKUP if pattern.match(head)), None)


def _mpeg_audio(head: bytes) -> str | None:
    """Told by the frame's header (ISO/IEC 11172-3, 13818-7); FF FE is also how a text in UTF-16 begins."""
    if head[1] & 0xF6 == 0xF0:
        return "audio/aac"
    layer_one_or_reserved = head[1] & 0x06 in (0x00, 0x06)
    reserved = head[1] & 0x18 == 0x08 or head[2] & 0xF0 == 0xF0 or head[2] & 0x0C == 0x0C
    return None if layer_one_or_reserved or reserved else "audio/mpeg"


def media_type_of(
    head: bytes, *, declared: str | None = None, filename: str = "", wanted: FileKind | None = None
) -> str:
    """The media type to keep: bytes first, then a declared type that says something, then the name's extension.

    ``wanted``: the kind that somebody asked for, which decides first between those that the bytes allow.
    """
    claimed = (declared or "").partition(";")[0].strip().lower()
    by_name = _EXTENSIONS.get(PurePosixPath(filename).suffix.lower())
    if types := possible(head):
        kinds = {kind_of(media_type): media_type for media_type in reversed(types)}
        hints = (wanted, kind_of(claimed), None if by_name is None else kind_of(by_name))
        return next((kinds[hint] for hint in hints if hint in kinds), types[0])
    if claimed not in _SILENT and re.fullmatch(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+", claimed):
        # a page of markup is no image, whatever it claims: only bytes can prove these kinds
        return claimed if not claimed.startswith(("image/", "video/", "audio/")) else by_name or claimed
    return by_name or "application/octet-stream"


def kind_of(media_type: str) -> FileKind:
    if media_type in _SUBTITLES:
        return FileKind.SUBTITLE
    if media_type in _VIDEO_TYPES:
        return FileKind.VIDEO
    match media_type.partition("/")[0]:
        case "image":
            return FileKind.IMAGE
        case "video":
            return FileKind.VIDEO
        case "audio":
            return FileKind.AUDIO
        case _:
            return FileKind.OTHER


def extension_of(media_type: str) -> str:
    """File-name extension with its dot for a media type of the table, else empty."""
    return _SUFFIX.get(media_type, "")
