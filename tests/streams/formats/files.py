"""Small media files made by hand, byte by byte, after their specifications."""

from __future__ import annotations

import struct
import zlib


def png(*, text: bytes = b"") -> bytes:
    """One black pixel (W3C PNG); ``text`` in a tEXt chunk."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))]
    if text:
        chunks.append((b"tEXt", b"Comment\x00" + text))
    chunks += [(b"IDAT", zlib.compress(b"\x00\x00")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def jpeg(*, thumbnail: bool = False, scans: int = 1) -> bytes:
    """Segments in order (ITU-T T.81 annex B); with a whole JPEG inside APP1 as cameras write it."""
    segments = [b"\xff\xd8", _segment(0xE0, b"JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00")]
    if thumbnail:
        segments.append(_segment(0xE1, b"Exif\x00\x00" + jpeg()))
    segments.append(_segment(0xDB, b"\x00" + bytes(range(1, 65))))
    segments.append(_segment(0xC0, b"\x08\x00\x08\x00\x08\x01\x01\x11\x00"))
    for _ in range(scans):
        segments.append(_segment(0xC4, b"\x00" + bytes(16)))
        segments.append(
            _segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + b"\x12\xff\x00\x34\xff\xd0\x56\xff\x00\xff\xd7\x78"
        )
    return b"".join(segments) + b"\xff\xff\xd9"


def _segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def gif(*, frames: int = 2, comment: bytes = b"made by hand;") -> bytes:
    """A global palette, a comment, frames with palettes of their own (GIF89a)."""
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0x80) + bytes(6) + b"\x02" + _blocks(b"\x4c\x01;")
    control = b"\x21\xf9" + _blocks(b"\x00\x00\x00\x00")
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    return head + b"\x21\xfe" + _blocks(comment) + (control + image) * frames + b";"


def _blocks(data: bytes) -> bytes:
    return b"".join(bytes([len(data[at : at + 5])]) + data[at : at + 5] for at in range(0, len(data), 5)) + b"\x00"


def riff(form: bytes, data: bytes) -> bytes:
    """A RIFF file with one chunk, padded to an even length."""
    chunk = form + b"data" + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(chunk)) + chunk


def webp() -> bytes:
    return riff(b"WEBP", b"VP8 and thirteen bytes more")


def box(name: bytes, data: bytes = b"", *, wide: bool = False) -> bytes:
    """A box of ISO/IEC 14496-12, with a 64-bit length when ``wide``."""
    if wide:
        return struct.pack(">I", 1) + name + struct.pack(">Q", len(data) + 16) + data
    return struct.pack(">I", len(data) + 8) + name + data


def mp4(*, moov_first: bool = True, wide: bool = False, extra: bytes = b"") -> bytes:
    moov = box(b"moov", box(b"mvhd", bytes(100)))
    mdat = box(b"mdat", b"not really video" * 4, wide=wide)
    return (
        box(b"ftyp", b"isom\x00\x00\x02\x00isomiso2mp41")
        + (moov + mdat if moov_first else mdat + box(b"free") + moov)
        + extra
    )


def fragmented_mp4(*, fragments: int = 2, index: bool = True) -> bytes:
    fragment = box(b"moof", bytes(24)) + box(b"mdat", bytes(40))
    moov = box(b"moov", box(b"mvhd", bytes(100)) + box(b"mvex", box(b"trex", bytes(24))))
    tail = box(b"mfra", box(b"mfro", bytes(8))) if index else b""
    return box(b"ftyp", b"iso5\x00\x00\x02\x00") + moov + fragment * fragments + tail


def avif() -> bytes:
    return box(b"ftyp", b"avif\x00\x00\x00\x00avifmif1") + box(b"meta", bytes(60)) + box(b"mdat", b"pixels")
