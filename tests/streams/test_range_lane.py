from __future__ import annotations

import asyncio
import random
import zlib
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagen.core.errors import FetchFailed, SourceChanged, SourceTruncated, StorageUnavailable
from mediagen.core.progress import Transfer
from mediagen.streams.base import KIB, StoredPart
from mediagen.streams.meter import Meter
from mediagen.streams.range_lane import move_ranges
from mediagen.streams.transfer import TransferResult, still_stored
from tests.infra.content import content_bytes
from tests.streams.memory_sink import MemorySink
from tests.streams.ranges import MemoryRanges
from tests.streams.targets import THREADS

PART = 256 * KIB
WHOLE = content_bytes(15 * PART + 77, 8)
COUNT = 16


def piece(number: int) -> bytes:
    return WHOLE[(number - 1) * PART : number * PART]


@dataclass
class Move:
    """One transfer and all that it needs."""

    source: MemoryRanges = field(default_factory=lambda: MemoryRanges(WHOLE, pauses=True))
    sink: MemorySink = field(default_factory=lambda: MemorySink(begun=True))
    recorded: list[StoredPart] = field(default_factory=list)
    readings: list[Transfer] = field(default_factory=list)
    record_fails: bool = False

    async def run(self, *, done: list[StoredPart] | None = None, workers: int = 4, readers: int = 2) -> TransferResult:
        done = done or []

        async def record(part: StoredPart) -> None:
            await asyncio.sleep(0)
            if self.record_fails:
                raise StorageUnavailable("the database is full")
            self.recorded.append(part)

        return await move_ranges(
            self.source,
            self.sink,
            readers=[self.source.open_reader() for _ in range(readers)],
            meter=Meter(self.readings.append, total=self.source.size, already=sum(part.size for part in done)),
            done=done,
            record=record,
            workers=workers,
            threads=THREADS,
        )


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 5 * PART, len(WHOLE)])
@pytest.mark.parametrize("workers", [1, 2, 4, 64])
async def test_any_length_arrives_whole(size: int, workers: int) -> None:
    move = Move(MemoryRanges(WHOLE[:size], pauses=True))

    moved = await move.run(workers=workers)
    await move.sink.commit(moved.parts, size=moved.size, crc32=moved.crc32)

    assert move.sink.content == WHOLE[:size]
    assert (moved.size, moved.crc32, moved.sha256) == (size, zlib.crc32(WHOLE[:size]), None)
    assert sorted(move.recorded, key=lambda part: part.number) == moved.parts
    assert move.source.taken == size
    assert move.readings[-1] == Transfer(size, size, size, move.readings[-1].bytes_per_second)
    assert move.source.open == set()
    assert move.sink.most_running <= workers


async def test_recorded_parts_are_neither_read_nor_sent_again() -> None:
    move = Move()
    done = [move.sink.had(number, piece(number)) for number in (1, 2, 5, COUNT)]
    move.sink.refusals = {1, 2, 5, COUNT}  # the store would say so

    moved = await move.run(done=done)

    assert move.sink.content == WHOLE
    assert move.source.taken == len(WHOLE) - sum(part.size for part in done)
    assert moved.crc32 == zlib.crc32(WHOLE)
    assert {part.number for part in move.recorded} == set(range(1, COUNT + 1)) - {1, 2, 5, COUNT}
    assert move.readings[0].downloaded > sum(part.size for part in done)


async def test_when_all_parts_are_there_nothing_is_read() -> None:
    move = Move()
    done = [move.sink.had(number, piece(number)) for number in range(1, COUNT + 1)]

    moved = await move.run(done=done)

    assert (move.source.taken, move.source.open, moved.crc32) == (0, set(), zlib.crc32(WHOLE))


async def test_stored_but_unrecorded_parts_are_read_for_their_checksum_and_not_sent() -> None:
    move = Move()
    for number in (3, COUNT):
        move.sink.had(number, piece(number))
    move.sink.refusals = {3, COUNT}

    moved = await move.run()

    assert move.source.taken == len(WHOLE)
    assert moved.crc32 == zlib.crc32(WHOLE)
    assert {part.number for part in move.recorded} == set(range(1, COUNT + 1))


async def test_unrecorded_parts_of_another_size_or_beyond_the_end_are_not_believed() -> None:
    move = Move()
    move.sink.had(3, b"half")
    move.sink.stored[99] = move.sink.stored[3]

    moved = await move.run()

    assert (move.sink.content, moved.crc32) == (WHOLE, zlib.crc32(WHOLE))


def test_recorded_parts_count_only_as_the_store_still_has_them() -> None:
    sink = MemorySink()
    same, other, resized = (sink.had(number, piece(number)) for number in (1, 2, 3))
    lost = StoredPart(4, PART, 0, "token")
    sink.had(2, piece(5))
    sink.had(3, b"short")

    assert still_stored([same, other, resized, lost], sink) == [same]


async def test_parts_that_are_sent_again_are_read_again_and_counted_once() -> None:
    move = Move()
    move.sink.replays = {1: 1, 7: 3}

    moved = await move.run()

    assert (move.sink.content, moved.crc32) == (WHOLE, zlib.crc32(WHOLE))
    assert move.source.taken == len(WHOLE) + 4 * PART
    assert move.readings[-1].downloaded == move.readings[-1].uploaded == len(WHOLE)
    assert all(reading.downloaded <= len(WHOLE) for reading in move.readings)


async def test_a_failing_store_ends_the_transfer_with_its_own_error() -> None:
    move = Move()
    move.sink.refusals = {6}

    with pytest.raises(StorageUnavailable, match="part 6"):
        await move.run()

    assert (move.source.open, move.sink.running) == (set(), 0)


async def test_failing_to_record_a_part_ends_the_transfer() -> None:
    move = Move(record_fails=True)

    with pytest.raises(StorageUnavailable, match="database"):
        await move.run()

    assert (move.source.open, move.sink.running) == (set(), 0)


@pytest.mark.parametrize("fails_at", [0, PART, 9 * PART + 5, len(WHOLE) - 1])
async def test_a_failing_source_ends_the_transfer_with_its_own_error(fails_at: int) -> None:
    move = Move(MemoryRanges(WHOLE, fails_at=fails_at, pauses=True))

    with pytest.raises(SourceTruncated):
        await move.run()

    assert (move.source.open, move.sink.running) == (set(), 0)


@pytest.mark.parametrize("borne", [1, 2, 3])
async def test_a_source_that_bears_few_connections_is_read_over_those(borne: int) -> None:
    move = Move(MemoryRanges(WHOLE, max_readers=borne, pauses=True))

    moved = await move.run(workers=6)

    assert (move.sink.content, moved.crc32) == (WHOLE, zlib.crc32(WHOLE))
    assert move.source.taken == len(WHOLE)
    assert move.source.open == set()
    assert move.readings[-1].downloaded == len(WHOLE)


async def test_a_source_that_bears_no_connection_is_an_error() -> None:
    move = Move(MemoryRanges(WHOLE, max_readers=0, pauses=True))

    with pytest.raises(FetchFailed, match="no more connections"):
        await move.run(workers=6)

    assert move.source.open == set()


async def test_a_changed_source_is_no_matter_of_connections() -> None:
    move = Move(MemoryRanges(WHOLE, max_readers=1, refusal=SourceChanged("other bytes"), pauses=True))

    with pytest.raises(SourceChanged):
        await move.run()

    assert move.source.open == set()


async def test_neighbouring_parts_are_read_over_one_connection() -> None:
    move = Move(MemoryRanges(WHOLE))

    await move.run(workers=1, readers=1)

    stretches = sorted(move.source.expected)
    assert stretches[0][0] == 0
    assert stretches[-1][1] == len(WHOLE)
    assert all(end == start for (_, end), (start, _) in pairwise(stretches))
    assert len(stretches) <= COUNT // 4 + 1


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    cancelled=st.none() | st.integers(0, 200),
    trouble=st.sampled_from(["none", "store", "source", "record"]),
    workers=st.integers(1, 8),
    borne=st.integers(1, 8),
)
async def test_however_it_ends_nothing_is_left(
    seed: int, cancelled: int | None, trouble: str, workers: int, borne: int
) -> None:
    dice = random.Random(seed)
    move = Move(sink=MemorySink(begun=True, turns=dice), record_fails=trouble == "record")
    move.source.max_readers = borne
    done = [move.sink.had(number, piece(number)) for number in range(1, COUNT + 1) if dice.random() < 0.2]
    if trouble == "store":
        move.sink.refusals = {dice.randrange(COUNT) + 1}
    if trouble == "source":
        move.source.fails_at = dice.randrange(len(WHOLE))
    before = asyncio.all_tasks()

    running = asyncio.get_running_loop().create_task(move.run(done=done, workers=workers, readers=dice.randrange(3)))
    for _ in range(cancelled or 0):
        await asyncio.sleep(0)
    if cancelled is not None:
        running.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([running])

    assert asyncio.all_tasks() - before == set()
    assert (move.source.open, move.sink.running) == (set(), 0)
    if running.cancelled():
        assert cancelled is not None
    elif running.exception() is None:
        assert move.sink.content == WHOLE
    else:
        assert trouble != "none"
        assert isinstance(running.exception(), FetchFailed | StorageUnavailable)
