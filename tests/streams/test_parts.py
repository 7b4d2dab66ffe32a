from __future__ import annotations

import io
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.core.errors import SourceTruncated
from mediagen.core.progress import Transfer
from mediagen.streams.base import KIB, MIB
from mediagen.streams.meter import Meter
from mediagen.streams.parts import (
    MAX_OBJECT,
    MAX_PARTS,
    MIN_PART,
    BufferBody,
    RangeBody,
    part_size_for,
    range_part_size_for,
)
from tests.infra.content import content_bytes
from tests.streams.ranges import MemoryRanges

WHOLE = content_bytes(3 * MIB + 5, 5)
SIZES = st.integers(0, MAX_OBJECT) | st.integers(0, 64).map(lambda number: number * MIB * MAX_PARTS + number % 3)


@given(SIZES, st.integers(1, 64 * MIB))
def test_part_sizes_keep_within_the_limits_of_s3(size: int, preferred: int) -> None:
    for part in (part_size_for(size, preferred), range_part_size_for(size, preferred)):
        assert part >= max(MIN_PART, preferred)
        assert -(-size // part) <= MAX_PARTS
        assert part == max(MIN_PART, preferred) or part % MIB == 0


@given(SIZES.filter(lambda size: size > 0))
def test_a_part_is_no_larger_than_it_must_be(size: int) -> None:
    part = part_size_for(size, MIN_PART)

    assert part == MIN_PART or -(-size // (part - MIB)) > MAX_PARTS


def test_part_sizes_at_the_borders() -> None:
    assert part_size_for(None, 8 * MIB) == 8 * MIB
    assert part_size_for(None, 1) == part_size_for(0, 1) == MIN_PART
    assert part_size_for(8 * MIB * MAX_PARTS, 8 * MIB) == 8 * MIB
    assert part_size_for(8 * MIB * MAX_PARTS + 1, 8 * MIB) == 9 * MIB
    assert part_size_for(MAX_OBJECT, 8 * MIB) == 525 * MIB
    assert range_part_size_for(1024 * MIB, 8 * MIB) == 32 * MIB
    assert range_part_size_for(100 * 1024 * MIB, 8 * MIB) == 64 * MIB


# -- what botocore does with a body


@given(st.binary(max_size=50), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50), st.integers(-1, 50))))
def test_a_buffer_body_is_a_seekable_file(data: bytes, moves: list[tuple[int, int, int]]) -> None:
    body, file = BufferBody(memoryview(data)), io.BytesIO(data)

    assert len(body) == len(data)
    for whence, offset, size in moves:
        offset = -min(offset, len(data)) if whence == os.SEEK_END else offset
        assert body.seek(offset, whence) == file.seek(offset, whence) == body.tell()
        assert body.read(size) == file.read(size)
        file.seek(body.tell())


@pytest.mark.parametrize("size", [0, 1, 512 * KIB, 512 * KIB + 1, len(WHOLE)])
async def test_a_buffer_body_is_replayed_as_often_as_it_is_asked(size: int) -> None:
    body = BufferBody(memoryview(WHOLE)[:size])

    for _ in range(3):
        chunks = [bytes(view) async for view in body]
        assert b"".join(chunks) == WHOLE[:size]
        assert all(0 < len(chunk) <= 512 * KIB for chunk in chunks)
    assert body.crc32 == zlib.crc32(WHOLE[:size])
    assert body.failure is None
    assert body.view == WHOLE[:size]


def metered() -> tuple[Meter, list[Transfer]]:
    readings: list[Transfer] = []
    return Meter(readings.append, total=len(WHOLE)), readings


async def test_a_range_body_is_its_download_and_reads_again_when_it_is_sent_again() -> None:
    source, (meter, _) = MemoryRanges(WHOLE), metered()
    body = RangeBody(source.open_reader(), 1000, 2 * MIB, meter=meter)

    for _ in range(3):
        assert b"".join([bytes(view) async for view in body]) == WHOLE[1000 : 1000 + 2 * MIB]
        assert body.crc32 == zlib.crc32(WHOLE[1000 : 1000 + 2 * MIB])
        assert meter.downloaded == body.received == 2 * MIB
    assert len(body) == 2 * MIB
    assert source.taken == 6 * MIB


async def test_a_range_body_left_in_the_middle_begins_anew() -> None:
    source, (meter, _) = MemoryRanges(WHOLE), metered()
    body = RangeBody(source.open_reader(), 0, 2 * MIB, meter=meter)

    views = body.__aiter__()
    first = bytes(await anext(views))
    await views.aclose()  # type: ignore[attr-defined]  # an async generator
    assert first == WHOLE[: len(first)]
    with pytest.raises(RuntimeError, match="not been read"):
        _ = body.crc32
    again = b"".join([bytes(view) async for view in body])

    assert again == WHOLE[: 2 * MIB]
    assert meter.downloaded == 2 * MIB
    body.forget()
    body.forget()
    assert meter.downloaded == 0


async def test_what_a_range_body_gave_stays_as_it_was_when_more_is_read() -> None:
    meter, _ = metered()
    body = RangeBody(MemoryRanges(WHOLE).open_reader(), 0, MIB, meter=meter, chunk_size=100_000)

    views = [view async for view in body]

    assert b"".join(bytes(view) for view in views) == WHOLE[:MIB]


async def test_a_range_body_blames_the_source_for_the_sources_failure() -> None:
    meter, _ = metered()
    source = MemoryRanges(WHOLE, fails_at=700_000)
    body = RangeBody(source.open_reader(), 0, MIB, meter=meter)

    with pytest.raises(SourceTruncated):
        _ = [view async for view in body]
    assert isinstance(body.failure, SourceTruncated)
    source.fails_at = None
    assert b"".join([bytes(view) async for view in body]) == WHOLE[:MIB]
    assert body.failure is None


def test_a_range_body_cannot_be_read_ahead() -> None:
    meter, _ = metered()
    body = RangeBody(MemoryRanges(WHOLE).open_reader(), 0, 10, meter=meter)

    assert (body.tell(), body.seek(0, os.SEEK_END), body.seek(0)) == (0, 10, 0)
    with pytest.raises(RuntimeError, match="cannot be read ahead"):
        body.read(1)
