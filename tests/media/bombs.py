"""Images that cost far more than they weigh, each written byte by byte: none is made by a library that may refuse."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Final

import pyvips

_BLOCK: Final = 1 << 20
PNG: Final = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def zeros(count: int) -> bytes:
    """A zlib stream of so many zeros (RFC 1950), made without packing each of them."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(_BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    last = packer.compress(bytes(count % _BLOCK)) + packer.flush()
    checksum = (count % 65_521) << 16 | 1  # Adler-32 of zeros
    return b"\x78\xda" + block * (count // _BLOCK) + last + struct.pack(">I", checksum)


def png(width: int, height: int, *more: bytes, depth: int = 8, colour: int = 2, interlaced: bool = False) -> bytes:
    """Black; ``more``: chunks before its pixels. ``colour`` 2: RGB, 6: RGBA."""
    row = width * (4 if colour == 6 else 3) * depth // 8
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    filters = height * 15 // 8 if interlaced else height  # a byte for each row, and seven passes have more rows
    pixels = zeros(row * height + filters)
    return PNG + png_chunk(b"IHDR", head) + b"".join(more) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND")


def wide_png() -> bytes:
    """A strip that, made as high as a poster, is two and a half million pixels wide."""
    return png(500_000, 199)


def tall_png() -> bytes:
    return png(199, 500_000)


def png_text() -> bytes:
    """Four texts of 64 MiB each, packed."""
    text = zeros(64 << 20)
    return png(64, 64, *(png_chunk(b"zTXt", b"Comment\0\0" + text) for _ in range(4)))


def png_profile() -> bytes:
    """A colour profile of 256 MiB, packed."""
    return png(64, 64, png_chunk(b"iCCP", b"icc\0\0" + zeros(256 << 20)))


def png_many_chunks() -> bytes:
    return png(64, 64, *([png_chunk(b"tEXt", b"a\0b")] * 200_000))


def interlaced_png() -> bytes:
    """Sixteen bits a channel, each pixel in one of seven passes: it has to be kept whole."""
    return png(4_000, 4_000, depth=16, colour=6, interlaced=True)


def solid_webp() -> bytes:
    """The largest lossless WebP that a limit of a hundred million pixels lets in."""
    return base64.b64decode("UklGRhoAAABXRUJQVlA4TA4AAAAv/v/0BQcQEf0PRET/Aw==")


def _jpeg_with(exif: bytes, image: bytes) -> bytes:
    segment = b"Exif\0\0" + exif
    return image[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + image[2:]


def small_jpeg(**options: object) -> bytes:
    return bytes(pyvips.Image.black(64, 64, bands=3).jpegsave_buffer(**options))


def nested_exif_jpeg() -> bytes:
    """EXIF of 60 kB whose makers' and users' entries lead to each other."""
    return _jpeg_with(wide_exif(), small_jpeg())


def wide_exif(entries: int = 5_000) -> bytes:
    """One directory of thousands of entries, each of which claims to be another directory: the same one."""
    body = b"".join(struct.pack("<HHII", 0x8769 if at % 2 else 0x8825, 4, 1, 8) for at in range(entries))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", entries) + body + struct.pack("<I", 0)


def exif_with_orientation(value: int, order: str = "<") -> bytes:
    head = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, value, 0)
    return head + struct.pack(f"{order}I", 8) + struct.pack(f"{order}H", 1) + entry + bytes(4)


def jpeg_with_exif(exif: bytes) -> bytes:
    return _jpeg_with(exif, small_jpeg())


def png_exif() -> bytes:
    """As ``nested_exif_jpeg``, where a PNG has it, and longer."""
    return png(64, 64, png_chunk(b"eXIf", wide_exif(20_000)))


def webp_exif() -> bytes:
    image = bytes(pyvips.Image.black(64, 64, bands=3).webpsave_buffer(keep="none"))
    simple = image[12:]
    flags = struct.pack("<I", 0x08) + (63).to_bytes(3, "little") * 2
    exif = wide_exif(20_000)
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + flags + simple + b"EXIF" + struct.pack("<I", len(exif)) + exif
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_many_frames() -> bytes:
    """Two hundred thousand frames of one pixel."""
    head = b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * 200_000 + b"\x3b"


def gif_large_canvas() -> bytes:
    """A frame of 65,535 squared in 40 bytes."""
    head = b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(6)
    return head + b"\x2c" + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\x02\x44\x01\x00\x3b"


def jpeg_many_scans() -> bytes:
    """A progressive JPEG whose last scan comes again and again, over all of its pixels."""
    image = bytes(pyvips.Image.black(8_000, 8_000, bands=3).jpegsave_buffer(interlace=True))
    start = image.rindex(b"\xff\xda")
    return image[:-2] + image[start:-2] * 2_000 + b"\xff\xd9"


def long_png() -> bytes:
    """As many pixels as are let in, of the dearest kind: some seconds of processor time."""
    return png(10_000, 10_000, depth=16, colour=6, interlaced=True)


def tiff_tiles() -> bytes:
    """A TIFF that says that it has one tile of a million squared."""
    entries = [(256, 4, 1, 64), (257, 4, 1, 64), (322, 4, 1, 1_000_000), (323, 4, 1, 1_000_000), (324, 4, 1, 8)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + bytes(4)


def avif_grid() -> bytes:
    """The head of an AVIF image, which is a grid of 256 times 256 others."""

    def box(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data) + 8) + kind + data

    meta = box(b"hdlr", bytes(8) + b"pict" + bytes(13)) + box(
        b"idat", b"\0\0\xff\xff" + struct.pack(">HH", 65_535, 65_535)
    )
    return box(b"ftyp", b"avif\0\0\0\0avifmif1miaf") + box(b"meta", bytes(4) + meta)


def svg() -> bytes:
    return b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
