"""Images without what is written beside their pixels: EXIF, XMP, comments, thumbnails, makers' notes.

Decoders parse all of that before they tell how large an image is, and some of it can be made to cost minutes: EXIF
directories that contain each other, texts that unpack to gigabytes. Kept are pixels, how they are coded, and their
colours; the orientation is read here. Only the heads of segments and chunks are looked at, in pure Python.

Sources: JPEG, ITU-T T.81 annex B; PNG, third edition, section 5; WebP container specification; EXIF 2.32 section 4.6.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

MAX_PROFILE: Final = 4 * 1024 * 1024
"""Bytes of a colour profile: those of printing presses have two million."""
_MAX_SEGMENTS: Final = 100_000
"""Chunks or segments of one image: a PNG of 50 MB in chunks of 8 kB has 6,400."""

_UPRIGHT: Final = 1
_ORIENTATION: Final = 0x0112
_SHORT: Final = 3
_EXIF: Final = b"Exif\0\0"
_ICC: Final = b"ICC_PROFILE\0"

_SOS, _EOI, _APP0, _APP1, _APP2, _APP14, _APP15, _COM = 0xDA, 0xD9, 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE
_PNG_KEPT: Final = frozenset({b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP"})
_ANCILLARY: Final = 0x20
"""The bit of a chunk's first letter that says that a decoder may pass it over."""
_WEBP_LEFT_OUT: Final = frozenset({b"EXIF", b"XMP "})


class MetadataRefused(Exception):
    """The image has more beside its pixels than an image needs."""


def strip_metadata(data: memoryview, media_type: str) -> tuple[bytes, int]:
    """The image without its metadata, and the orientation (1 to 8) of the first EXIF in it.

    What does not follow its format is left as it is from there on: the decoder says what is wrong with it.

    Raises:
        MetadataRefused: its colour profile is too large, or it is in too many pieces.
    """
    walk = _WALKS.get(media_type)
    return (bytes(data), _UPRIGHT) if walk is None else walk(data)


def _jpeg(data: memoryview) -> tuple[bytes, int]:
    kept: list[memoryview] = [data[:2]]
    orientation, profile, at = 0, 0, 2
    for _ in range(_MAX_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] in (_SOS, _EOI):
            break
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        content = data[at + 4 : end]
        if not orientation and marker == _APP1 and content[: len(_EXIF)].tobytes() == _EXIF:
            orientation = _orientation(content[len(_EXIF) :])
        if marker == _APP2 and content[: len(_ICC)].tobytes() == _ICC:
            profile += len(content)
            kept.append(data[at:end])
        elif marker in (_APP0, _APP14) or not (_APP0 <= marker <= _APP15 or marker == _COM):
            kept.append(data[at:end])
        at = max(end, at + 4)
    else:
        raise MetadataRefused("it is in too many pieces")
    _check_profile(profile)
    return b"".join([*kept, data[at:]]), orientation or _UPRIGHT


def _png(data: memoryview) -> tuple[bytes, int]:
    kept: list[memoryview] = [data[:8]]
    orientation, at = 0, 8
    for _ in range(_MAX_SEGMENTS):
        if at + 12 > len(data):
            break
        kind, end = bytes(data[at + 4 : at + 8]), at + 12 + int.from_bytes(data[at : at + 4], "big")
        if not orientation and kind == b"eXIf":
            orientation = _orientation(data[at + 8 : end - 4])
        elif kind == b"iCCP":
            _check_profile(end - at)
        if kind in _PNG_KEPT or not kind[0] & _ANCILLARY:
            kept.append(data[at:end])
        at = end
    else:
        raise MetadataRefused("it is in too many pieces")
    return b"".join([*kept, data[at:]]), orientation or _UPRIGHT


def _webp(data: memoryview) -> tuple[bytes, int]:
    kept: list[memoryview] = []
    orientation, at = 0, 12
    for _ in range(_MAX_SEGMENTS):
        if at + 8 > len(data):
            break
        kind, size = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        if not orientation and kind == b"EXIF":
            exif = data[at + 8 : end]
            orientation = _orientation(exif[len(_EXIF) :] if exif[: len(_EXIF)].tobytes() == _EXIF else exif)
        elif kind == b"ICCP":
            _check_profile(size)
        if kind not in _WEBP_LEFT_OUT:
            kept.append(data[at:end])
        at = end
    else:
        raise MetadataRefused("it is in too many pieces")
    body = b"".join([*kept, data[at:]])
    missing = int.from_bytes(data[4:8], "little") + 8 - len(data)  # as short of its announced length as it was
    return b"RIFF" + struct.pack("<I", max(0, 4 + len(body) + missing)) + b"WEBP" + body, orientation or _UPRIGHT


_WALKS: Final[Mapping[str, Callable[[memoryview], tuple[bytes, int]]]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/webp": _webp,
}


def _check_profile(size: int) -> None:
    if size > MAX_PROFILE:
        raise MetadataRefused(f"its colour profile has more than {MAX_PROFILE} bytes")


def _orientation(tiff: memoryview) -> int:
    """The orientation that the first directory of EXIF names; upright when it names none."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    if order is None or len(tiff) < 8:
        return _UPRIGHT
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return _UPRIGHT
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for at in range(start + 2, min(start + 2 + count * 12, len(tiff) - 11), 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, at)
        if tag == _ORIENTATION:
            return value if kind == _SHORT and 1 <= value <= 8 else _UPRIGHT
    return _UPRIGHT
