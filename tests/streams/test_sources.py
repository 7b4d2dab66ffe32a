from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.core.errors import SourceTruncated, TooLarge, UnsupportedMedia
from mediagen.streams.base import Source
from mediagen.streams.sources import ChunkSource, DecompressedSource, ExactSource, LimitedSource, PeekableSource
from tests.infra.content import content_bytes
from tests.streams.json.splitting import split_at, splits

WHOLE = content_bytes(200_000, 4)


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def source(*pieces: bytes, size: int | None = None) -> ChunkSource:
    return ChunkSource(chunks(*pieces), size=size)


async def drained(source: Source, *, step: int = 65_536) -> bytes:
    """All of it, and nothing more after the end."""
    out, buffer = bytearray(), memoryview(bytearray(step))
    while count := await source.read_into(buffer):
        assert 0 < count <= step
        out += buffer[:count]
    assert await source.read_into(buffer) == 0
    return bytes(out)


@pytest.mark.parametrize("step", [1, 7, 65_536])
async def test_chunks_of_any_size_fill_buffers_of_any_size(step: int) -> None:
    data = WHOLE[:3000]

    assert await drained(source(b"", data[:1], b"", data[1:2999], data[2999:], b""), step=step) == data
    assert await drained(source()) == b""


# -- LimitedSource


@pytest.mark.parametrize("limit", [3000, 3001, 10**12])
async def test_what_is_within_the_limit_passes(limit: int) -> None:
    assert await drained(LimitedSource(source(WHOLE[:3000], size=3000), limit)) == WHOLE[:3000]
    assert await drained(LimitedSource(source(WHOLE[:3000]), limit)) == WHOLE[:3000]


async def test_too_much_is_refused_at_once_when_announced_and_on_the_way_when_not() -> None:
    with pytest.raises(TooLarge, match="3000 bytes announced, at most 2999"):
        LimitedSource(source(WHOLE[:3000], size=3000), 2999)
    for lies in (None, 10):
        with pytest.raises(TooLarge, match="larger than 2999"):
            await drained(LimitedSource(source(WHOLE[:3000], size=lies), 2999))


# -- ExactSource


async def test_an_announced_size_must_come() -> None:
    assert await drained(ExactSource(source(WHOLE[:100], size=100))) == WHOLE[:100]
    assert await drained(ExactSource(source(WHOLE[:100]))) == WHOLE[:100]
    assert await drained(ExactSource(source(size=0))) == b""
    for size in (99, 101):
        with pytest.raises(SourceTruncated, match=f"got 100 of {size} bytes"):
            await drained(ExactSource(source(WHOLE[:100], size=size)))


# -- PeekableSource


@pytest.mark.parametrize("wanted", [0, 1, 10, 150, 1000])
@pytest.mark.parametrize("step", [1, 64, 1000])
async def test_what_was_peeked_at_still_comes(wanted: int, step: int) -> None:
    peeked = PeekableSource(source(WHOLE[:10], WHOLE[10:100], size=100))

    assert await peeked.peek(wanted) == WHOLE[: min(wanted, 100)]
    assert await peeked.peek(min(wanted, 5)) == WHOLE[: min(wanted, 5)]
    assert peeked.size == 100
    assert await drained(peeked, step=step) == WHOLE[:100]


# -- DecompressedSource


def deflated(data: bytes) -> bytes:
    return zlib.compress(data, 1)


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 1)


def in_members(data: bytes) -> bytes:
    """As parallel compressors write it."""
    return b"".join(gzip.compress(piece, 1) for piece in split_at(data, range(0, len(data), 70_000)))


def bare(data: bytes) -> bytes:
    """``deflate`` without the zlib wrapper, as some servers understand the word."""
    packer = zlib.compressobj(1, wbits=-15)
    return packer.compress(data) + packer.flush()


CODINGS = [("gzip", gzipped), ("x-gzip", gzipped), ("GZip ", in_members), ("deflate", deflated), ("deflate", bare)]


@pytest.mark.parametrize(("coding", "compress"), CODINGS)
@pytest.mark.parametrize("size", [0, 1, 200_000])
@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
async def test_a_compressed_transfer_comes_out_as_it_was(
    coding: str, compress: Callable[[bytes], bytes], size: int, step: int
) -> None:
    raw = compress(WHOLE[:size])
    pieces = split_at(raw, range(0, len(raw), step)) if len(raw) < 200 * step else [raw]

    plain = DecompressedSource(source(*pieces, size=len(raw)), coding)

    assert plain.size is None
    assert await drained(plain) == WHOLE[:size]


@pytest.mark.parametrize(("coding", "compress"), CODINGS)
async def test_a_compressed_transfer_cut_anywhere_is_an_error(coding: str, compress: Callable[[bytes], bytes]) -> None:
    raw = compress(b"some words, words, words " * 4)
    border = len(gzipped(b"")) if compress is in_members else -1  # looks like an end

    for end in range(len(raw)):
        if end == border:
            continue
        with pytest.raises(SourceTruncated):
            await drained(DecompressedSource(source(raw[:end]), coding))


@given(st.binary(max_size=300), st.integers(0, 10_000), st.integers(1, 255))
async def test_a_damaged_gzip_never_passes(data: bytes, at: int, flip: int) -> None:
    raw = bytearray(gzipped(data))
    at = 10 + at % (len(raw) - 10)  # what the head says of name and time may be anything
    raw[at] ^= flip

    try:
        plain = await drained(DecompressedSource(source(bytes(raw)), "gzip"))
    except SourceTruncated:
        return
    assert plain == data  # a bit that does not count: another way to write the same


@given(st.data())
async def test_decompression_does_not_depend_on_where_the_bytes_are_split(draw: st.DataObject) -> None:
    raw = in_members(WHOLE[:80_000])

    assert await drained(DecompressedSource(source(*draw.draw(splits(raw[:600])), raw[600:]), "gzip")) == WHOLE[:80_000]


async def test_bytes_after_the_end_of_a_compressed_stream_are_an_error() -> None:
    for coding, compress in CODINGS:
        with pytest.raises(SourceTruncated):
            await drained(DecompressedSource(source(compress(b"abc"), b"more"), coding))


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "", "aws-chunked"])
def test_an_unknown_coding_is_refused(coding: str) -> None:
    with pytest.raises(UnsupportedMedia, match="content coding"):
        DecompressedSource(source(), coding)


async def test_a_bomb_goes_off_in_small_pieces_and_into_the_limit() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    limited = LimitedSource(DecompressedSource(source(bomb), "gzip"), 16 << 20)
    buffer, total = memoryview(bytearray(1 << 20)), 0

    async def explode() -> None:
        nonlocal total
        while count := await limited.read_into(buffer):
            total += count

    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            await explode()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(bomb) < 80_000
    assert total == 16 << 20
    assert peak < 1 << 20
