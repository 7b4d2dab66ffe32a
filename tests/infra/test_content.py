"""Generated content is the same everywhere and never repeats a page."""

import hashlib
import zlib

from tests.infra.content import BLOCK, content, content_bytes, crc32_of, sha256_of


def test_any_part_is_that_part_of_the_whole() -> None:
    size = 3 * BLOCK + 12_345
    whole = content_bytes(size, 5)

    assert len(whole) == size
    for start, stop in ((0, 10), (BLOCK - 1, BLOCK + 1), (4_000, 2 * BLOCK + 5), (size - 1, size), (7, 7)):
        assert b"".join(content(size, 5, start=start, stop=stop)) == whole[start:stop]


def test_no_two_pages_are_alike_and_seeds_differ() -> None:
    whole = content_bytes(4 * BLOCK)
    pages = {whole[offset : offset + 4096] for offset in range(0, len(whole), 4096)}

    assert len(pages) == len(whole) // 4096
    assert content_bytes(100, 1) != content_bytes(100, 2)


def test_checksums_are_those_of_the_bytes() -> None:
    whole = content_bytes(BLOCK + 1, 3)

    assert sha256_of(BLOCK + 1, 3) == hashlib.sha256(whole).hexdigest()
    assert crc32_of(BLOCK + 1, 3) == zlib.crc32(whole)
    assert sha256_of(0) == hashlib.sha256().hexdigest()
