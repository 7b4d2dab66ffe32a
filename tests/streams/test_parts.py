from __future__ import annotations

import asyncio
import itertools
import threading
import zlib
from collections.abc import Coroutine
from concurrent.futures import Executor
from typing import Any

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
from tests.streams.targets import THREADS, Gathering, written_by

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


# -- bodies


@pytest.mark.parametrize("threads", [None, THREADS])
@pytest.mark.parametrize("size", [0, 1, 512 * KIB, 512 * KIB + 1, len(WHOLE)])
async def test_a_buffer_body_is_replayed_as_often_as_it_is_asked(size: int, threads: Executor | None) -> None:
    body = BufferBody(memoryview(WHOLE)[:size], threads=threads)

    for _ in range(3):
        target = Gathering()
        await body.write_to(target)
        assert target.content == WHOLE[:size]
        assert bool(target.offered) == (threads is not None and size > MIB)
    assert body.crc32 == zlib.crc32(WHOLE[:size])
    assert body.view == WHOLE[:size]
    assert body.read_ahead(3, 9) == WHOLE[:size][3:9]


@pytest.mark.parametrize("full_after", [1, 1000, 700_000])
async def test_what_a_thread_could_not_send_is_sent_by_the_loop(full_after: int) -> None:
    target = Gathering(full_after=full_after)

    await BufferBody(memoryview(WHOLE), threads=THREADS).write_to(target)

    assert target.content == WHOLE
    assert target.offered


def metered() -> tuple[Meter, list[Transfer]]:
    readings: list[Transfer] = []
    return Meter(readings.append, total=len(WHOLE)), readings


def ranged(source: MemoryRanges, start: int, length: int, meter: Meter, **more: Any) -> RangeBody:
    return RangeBody(source.open_reader(), start, length, meter=meter, threads=THREADS, **more)


async def test_a_range_body_is_its_download_and_reads_again_when_it_is_sent_again() -> None:
    source, (meter, _) = MemoryRanges(WHOLE), metered()
    body = ranged(source, 1000, 2 * MIB, meter, chunk_size=100 * KIB)

    for _ in range(3):
        target = Gathering()
        await body.write_to(target)
        assert target.content == WHOLE[1000 : 1000 + 2 * MIB]
        assert target.offered, "a quick source is served by a thread"
        assert body.crc32 == zlib.crc32(WHOLE[1000 : 1000 + 2 * MIB])
        assert meter.downloaded == 2 * MIB
    assert len(body) == 2 * MIB
    assert source.taken == 6 * MIB


async def test_bytes_are_counted_piece_by_piece_also_by_a_thread() -> None:
    source, (meter, readings) = MemoryRanges(WHOLE), metered()
    seen = [0]

    class Looking(Gathering):
        def try_write(self, view: memoryview, /, *, within: float) -> int:
            seen.append(meter.downloaded)
            return super().try_write(view, within=within)

    await ranged(source, 0, len(WHOLE), meter, chunk_size=100 * KIB).write_to(Looking())

    assert len(seen) > 10
    assert all(after - before <= 2 * 100 * KIB for before, after in itertools.pairwise(seen))
    assert meter.downloaded == len(WHOLE)
    assert readings


@pytest.mark.parametrize("full_after", [1, 1000, 70_000])
async def test_a_target_that_is_full_gets_the_rest_from_the_loop(full_after: int) -> None:
    source, (meter, _) = MemoryRanges(WHOLE), metered()
    target = Gathering(full_after=full_after)
    body = ranged(source, 0, MIB, meter, chunk_size=100 * KIB)

    await body.write_to(target)

    assert target.content == WHOLE[:MIB]
    assert target.offered
    assert body.crc32 == zlib.crc32(WHOLE[:MIB])


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_range_body_left_in_the_middle_begins_anew(in_thread: bool) -> None:
    source, (meter, _) = MemoryRanges(WHOLE), metered()
    body = ranged(source, 0, 2 * MIB, meter, chunk_size=100 * KIB)
    gate = threading.Event()

    class Leaving(Gathering):
        async def write(self, view: memoryview, /) -> None:
            await super().write(view)
            if not in_thread:
                raise ConnectionResetError

        def try_write(self, view: memoryview, /, *, within: float) -> int:
            raise ConnectionResetError

    gate.set()
    with pytest.raises(ConnectionResetError):
        await body.write_to(Leaving())
    with pytest.raises(RuntimeError, match="not been read"):
        _ = body.crc32
    again = await written_by(body)

    assert again == WHOLE[: 2 * MIB]
    assert meter.downloaded == 2 * MIB
    body.forget()
    body.forget()
    assert meter.downloaded == 0


async def test_a_range_body_asked_for_anew_ends_whoever_still_pours() -> None:
    """An answer that comes early starts the next try while the last one is still at it."""
    source, (meter, _) = MemoryRanges(WHOLE), metered()
    body = ranged(source, 0, 2 * MIB, meter, chunk_size=100 * KIB)
    gate = threading.Event()
    old = Gathering(gate=gate)

    async with asyncio.TaskGroup() as group:
        first = group.create_task(given_up(body.write_to(old)))
        await asyncio.to_thread(old.waiting.wait, 20)
        second = group.create_task(written_by(body))
        await asyncio.sleep(0.01)
        assert not second.done(), "the reader belongs to one at a time"
        gate.set()
        await first

    assert second.result() == WHOLE[: 2 * MIB]
    assert meter.downloaded == 2 * MIB
    assert body.crc32 == zlib.crc32(WHOLE[: 2 * MIB])


async def given_up(pouring: Coroutine[Any, Any, None]) -> None:
    with pytest.raises(RuntimeError, match="given up"):
        await pouring


async def test_a_range_body_passes_on_what_stopped_the_source() -> None:
    meter, _ = metered()
    source = MemoryRanges(WHOLE, fails_at=700_000)
    body = ranged(source, 0, MIB, meter, chunk_size=100 * KIB)

    with pytest.raises(SourceTruncated):
        await written_by(body)
    source.fails_at = None
    assert await written_by(body) == WHOLE[:MIB]


def test_a_range_body_cannot_be_read_ahead() -> None:
    meter, _ = metered()
    body = RangeBody(MemoryRanges(WHOLE).open_reader(), 0, 10, meter=meter)

    assert len(body) == 10
    with pytest.raises(RuntimeError, match="cannot be read ahead"):
        body.read_ahead(0, 1)
