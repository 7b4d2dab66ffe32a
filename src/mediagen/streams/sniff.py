"""What bytes are, told by the bytes (magic numbers), then by a declared type, then by a name.

The table holds what mediagen takes in. A source's declared type counts only where the bytes say nothing, and never
makes active content (HTML, SVG, XML) into something else.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

from mediagen.core.files import FileKind

SNIFF_BYTES: Final = 4096
"""How many first bytes are enough."""

_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\xff\x0a", "image/jxl"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
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
_BRANDS: Final = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
}
_SRT: Final = re.compile(rb"\s*\d+\r?\n\d\d:\d\d:\d\d,\d\d\d --> ")
# Every repetition is possessive: what has matched is never tried another way, so no page costs more than its length.
_BEFORE: Final = rb"(?:\xef\xbb\xbf)?+\s*+(?:<\?xml[^>]*+>\s*+)?+(?:(?><!--.*?-->)\s*+)*+"
_TAGS: Final = (
    rb"!doctype\s++html|html|head|body|script|iframe|h1|div|font|table|a|style|title|b|br|p"  # the list of WHATWG
    rb"|meta|link|base|form|img|object|embed"
)
_MARKUP: Final = (
    (re.compile(_BEFORE + rb"(?:<!doctype\s++svg[^>]*+>\s*+)?+<svg[\s>/]", re.IGNORECASE | re.DOTALL), "image/svg+xml"),
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
    "text/html": ".html",
    "application/xml": ".xml",
    "application/gzip": ".gz",
}
_SUBTITLES: Final = frozenset({"text/vtt", "application/x-subrip"})
_SILENT: Final = frozenset({"application/octet-stream", "binary/octet-stream", "application/binary", ""})
"""Declared types that say nothing."""


def sniff(head: bytes) -> str | None:
    """The media type that the first bytes show, or None."""
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    for magic, media_type in _MAGIC:
        if head.startswith(magic):
            return _ogg(head) if magic == b"OggS" else media_type
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    if head[:1] == b"\xff" and len(head) > 3 and head[1] & 0xE0 == 0xE0:
        return _mpeg_audio(head)
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
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


def _ogg(head: bytes) -> str:
    return "video/ogg" if b"theora" in head[:128] else "audio/ogg"


def media_type_of(head: bytes, *, declared: str | None = None, filename: str = "") -> str:
    """The media type to keep: bytes first, then a declared type that says something, then the name's extension."""
    if (seen := sniff(head)) is not None:
        return seen
    claimed = (declared or "").partition(";")[0].strip().lower()
    by_name = _EXTENSIONS.get(PurePosixPath(filename).suffix.lower())
    if claimed not in _SILENT and re.fullmatch(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+", claimed):
        # a page of markup is no picture, whatever it claims: only bytes can prove these kinds
        return claimed if not claimed.startswith(("image/", "video/", "audio/")) else by_name or claimed
    return by_name or "application/octet-stream"


def kind_of(media_type: str) -> FileKind:
    if media_type in _SUBTITLES:
        return FileKind.SUBTITLE
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
