"""Pictures that cost far more than they weigh, each written byte by byte: none is made by a library that may refuse."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

import pyvips

PNG: Final = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _packed(pieces: Iterator[bytes]) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(piece) for piece in pieces) + packer.flush()


def png(width: int, height: int, *more: bytes, depth: int = 8, colour: int = 2, interlaced: bool = False) -> bytes:
    """Black; ``more``: chunks before its pixels. ``colour`` 2: RGB, 6: RGBA."""
    row = bytes(1 + width * (4 if colour == 6 else 3) * depth // 8)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    pixels = _packed(row for _ in range(height + (height if interlaced else 0)))
    return PNG + png_chunk(b"IHDR", head) + b"".join(more) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND")


def wide_png() -> bytes:
    """A strip that, made as high as a poster, is two and a half million pixels wide."""
    return png(500_000, 199)


def tall_png() -> bytes:
    return png(199, 500_000)


def png_text() -> bytes:
    """Four texts of 64 MiB each, packed."""
    text = _packed(bytes(1 << 20) for _ in range(64))
    return png(64, 64, *(png_chunk(b"zTXt", b"Comment\0\0" + text) for _ in range(4)))


def png_profile() -> bytes:
    """A colour profile of 256 MiB, packed."""
    return png(64, 64, png_chunk(b"iCCP", b"icc\0\0" + _packed(bytes(1 << 20) for _ in range(256))))


def png_many_chunks() -> bytes:
    return png(64, 64, *([png_chunk(b"tEXt", b"a\0b")] * 200_000))


def interlaced_png() -> bytes:
    """Sixteen bits a channel, each pixel in one of seven passes: it has to be kept whole."""
    return png(9_900, 9_900, depth=16, colour=6, interlaced=True)


def solid_webp() -> bytes:
    """The largest lossless WebP that a limit of a hundred million pixels lets in."""
    return bytes(pyvips.Image.black(16_383, 6_100, bands=3).webpsave_buffer(lossless=True, effort=0))


def _nested_exif(levels: int) -> bytes:
    """TIFF directories in which every entry leads to the same next one."""
    head = b"II*\0" + struct.pack("<I", 8)
    per = 2 + levels * 12 + 4
    body = b""
    for level in range(60_000 // per):
        following = 8 + (level + 1) * per
        entries = b"".join(struct.pack("<HHII", 0x8769, 4, 1, following) for _ in range(levels))
        body += struct.pack("<H", levels) + entries + struct.pack("<I", 0)
    return head + body


def _jpeg_with(exif: bytes, picture: bytes) -> bytes:
    segment = b"Exif\0\0" + exif
    return picture[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + picture[2:]


def small_jpeg(**options: object) -> bytes:
    return bytes(pyvips.Image.black(64, 64, bands=3).jpegsave_buffer(**options))


def nested_exif_jpeg() -> bytes:
    """EXIF of 60 kB whose makers' and users' entries lead to each other."""
    return _jpeg_with(wide_exif(), small_jpeg())


def wide_exif(entries: int = 5_000) -> bytes:
    """One directory of thousands of entries, each of which claims to be another directory: the same one."""
    body = b"".join(struct.pack("<HHII", 0x8769 if at % 2 else 0x8825, 4, 1, 8) for at in range(entries))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", entries) + body + struct.pack("<I", 0)
