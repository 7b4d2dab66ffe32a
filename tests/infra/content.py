"""Bytes of any size that nobody has to hold, the same on every machine.

A base block of 1 MiB is drawn once per seed; block ``n`` is that block with ``n`` stamped into every 4 KiB page, so no
two pages of a content are alike and a page that lands in the wrong place changes the checksum.
"""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache

BLOCK = 1 << 20
_PAGE = 4096
_STAMP = struct.Struct("<Q")


@lru_cache(maxsize=8)
def _base(seed: int) -> bytes:
    return random.Random(seed).randbytes(BLOCK)


def _block(number: int, seed: int) -> bytes:
    block = bytearray(_base(seed))
    for page, offset in enumerate(range(0, BLOCK, _PAGE)):
        _STAMP.pack_into(block, offset, number * (BLOCK // _PAGE) + page)
    return bytes(block)


def content(size: int, seed: int = 0, *, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Bytes ``start`` to ``stop`` (``size`` when None) of the content, in chunks of 1 MiB at most."""
    stop = size if stop is None else min(stop, size)
    while start < stop:
        number, offset = divmod(start, BLOCK)
        chunk = _block(number, seed)[offset : offset + stop - start]
        yield chunk
        start += len(chunk)


def content_bytes(size: int, seed: int = 0) -> bytes:
    """The whole content, for sizes that fit in memory."""
    return b"".join(content(size, seed))


@lru_cache(maxsize=64)
def sha256_of(size: int, seed: int = 0) -> str:
    """SHA-256 of the content in lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    for chunk in content(size, seed):
        digest.update(chunk)
    return digest.hexdigest()


@lru_cache(maxsize=64)
def crc32_of(size: int, seed: int = 0) -> int:
    """CRC-32 (ISO 3309, as zlib and S3 count it) of the content."""
    crc = 0
    for chunk in content(size, seed):
        crc = zlib.crc32(chunk, crc)
    return crc
