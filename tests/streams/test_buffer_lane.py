from __future__ import annotations

import asyncio
import hashlib
import random
import zlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagen.core.errors import SourceTruncated, StorageUnavailable, TooLarge
from mediagen.core.progress import Transfer
from mediagen.streams.base import KIB, Source
from mediagen.streams.buffer_lane import move_buffered
from mediagen.streams.meter import Meter
from mediagen.streams.pool import BufferPool
from mediagen.streams.sources import ChunkSource, LimitedSource
from mediagen.streams.transfer import TransferResult
from tests.infra.content import content_bytes
from tests.streams.memory_sink import MemorySink

PART = 256 * KIB
WHOLE = content_bytes(2_000_000, 6)


@dataclass
class Move:
    """One transfer and all that it needs."""

    threads: ThreadPoolExecutor
    sink: MemorySink = field(default_factory=MemorySink)
    pool: BufferPool = field(default_factory=lambda: BufferPool(8 * PART))
    readings: list[Transfer] = field(default_factory=list)
    begun: int = 0

    async def run(self, source: Source, mode: Literal["auto", "always", "never"] = "always") -> TransferResult:
        async def on_begin() -> None:
            assert self.sink.begun
            assert not self.sink.parts
            await asyncio.sleep(0)
            self.begun += 1

        return await move_buffered(
            source,
            self.sink,
            pool=self.pool,
            meter=Meter(self.readings.append, total=source.size),
            threads=self.threads,
            sha256_mode=mode,
            on_begin=on_begin,
        )


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def move(threads: ThreadPoolExecutor) -> Move:
    return Move(threads)


async def chunks(data: bytes, *, fails: Exception | None = None, turns: bool = False) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_001):
        if turns:
            await asyncio.sleep(0)
        yield data[start : start + 100_001]
    if fails is not None:
        raise fails


def source(data: bytes, *, size: int | None = None, fails: Exception | None = None, turns: bool = False) -> ChunkSource:
    return ChunkSource(chunks(data, fails=fails, turns=turns), size=size)


class Hasty:
    """A source that a thread may take from: much at a time, then little, then nothing until it is waited for."""

    size: int | None = None

    def __init__(self, data: bytes, dice: random.Random, fails: Exception | None = None) -> None:
        self._left = memoryview(data)
        self._dice = dice
        self._fails = fails
        self.taken = 0

    async def read_into(self, buffer: memoryview, /) -> int:
        for _ in range(self._dice.choice([0, 0, 1, 3])):
            await asyncio.sleep(0)
        count = self._give(buffer[: self._dice.choice([1, 130 * KIB, PART])])
        if not count and self._fails is not None:
            raise self._fails
        return count

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        count = self._give(buffer[: self._dice.choice([0, 1000, 70 * KIB, PART, PART])])
        self.taken += count
        return count

    def _give(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


SIZES = [0, 1, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 7, len(WHOLE)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("accepts_stream", [True, False])
async def test_any_length_arrives_whole_with_its_digests(
    move: Move, size: int, announced: bool, accepts_stream: bool
) -> None:
    move.sink.accepts_stream = accepts_stream
    data = WHOLE[:size]

    moved = await move.run(source(data, size=size if announced else None))
    await move.sink.commit(moved.parts, size=moved.size, crc32=moved.crc32)

    assert move.sink.content == data
    assert (moved.size, moved.crc32) == (size, zlib.crc32(data))
    assert moved.sha256 == hashlib.sha256(data).hexdigest()
    assert move.readings[-1] == Transfer(size, size, size, move.readings[-1].bytes_per_second)
    assert move.pool.lent == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("accepts_stream", [True, False])
async def test_what_a_thread_took_arrives_whole_with_its_digests(move: Move, size: int, accepts_stream: bool) -> None:
    taken = 0
    for seed in range(20):
        move.sink, move.readings = MemorySink(accepts_stream=accepts_stream), []
        hasty = Hasty(WHOLE[:size], random.Random(seed))
        moved = await move.run(hasty)

        assert move.sink.content == WHOLE[:size]
        assert (moved.size, moved.crc32) == (size, zlib.crc32(WHOLE[:size]))
        assert moved.sha256 == hashlib.sha256(WHOLE[:size]).hexdigest()
        assert move.readings[-1].downloaded == size
        taken += hasty.taken
    assert taken > size or size <= 2 * PART


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART])
async def test_what_fits_one_part_is_one_request(move: Move, size: int) -> None:
    moved = await move.run(source(WHOLE[:size], size=size))

    assert (move.sink.whole, moved.parts, move.begun, move.sink.begun) == (WHOLE[:size], [], 0, False)


async def test_parts_are_of_one_size_and_the_upload_is_announced_before_the_first(move: Move) -> None:
    moved = await move.run(source(WHOLE))

    assert [len(data) for data in move.sink.parts.values()] == [PART] * 7 + [len(WHOLE) - 7 * PART]
    assert [part.number for part in moved.parts] == list(range(1, 9))
    assert move.begun == 1


async def test_parts_in_flight_and_memory_are_bounded(move: Move) -> None:
    move.sink.gate = asyncio.Event()
    move.pool = BufferPool(3 * PART)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(move.run(source(WHOLE)))
        async with asyncio.timeout(5):
            while move.sink.running < 3:
                await asyncio.sleep(0.001)
        for _ in range(50):
            await asyncio.sleep(0)
        assert (move.sink.running, move.pool.lent) == (3, 3 * PART)
        move.pool.budget = 8 * PART
        move.sink.gate.set()

    assert move.sink.most_running <= move.sink.parts_in_flight
    assert move.sink.content == WHOLE
    assert running.result().size == len(WHOLE)


@pytest.mark.parametrize("lies", [PART // 2, 2 * PART + 1, len(WHOLE) + 1])
@pytest.mark.parametrize("accepts_stream", [True, False])
async def test_fewer_bytes_than_announced_are_an_error(move: Move, lies: int, accepts_stream: bool) -> None:
    move.sink.accepts_stream = accepts_stream
    have = WHOLE[: lies - 1]

    with pytest.raises(SourceTruncated, match=f"got {lies - 1} of {lies} bytes"):
        await move.run(source(have, size=lies))

    assert move.pool.lent == 0
    assert move.sink.whole is None or accepts_stream  # such a sink has it, and is left without a commit


@pytest.mark.parametrize("after", [0, PART - 10, PART + 10, 5 * PART])
@pytest.mark.parametrize("accepts_stream", [True, False])
async def test_a_failing_source_ends_the_transfer_with_its_own_error(
    move: Move, after: int, accepts_stream: bool
) -> None:
    """Not with a group of errors: the caller tells by the class what can be tried again."""
    move.sink.accepts_stream = accepts_stream
    with pytest.raises(SourceTruncated, match="broke off"):
        await move.run(source(WHOLE[:after], fails=SourceTruncated("broke off")))

    assert move.pool.lent == 0
    assert move.sink.running == 0


async def test_a_limit_ends_the_transfer_in_the_middle(move: Move) -> None:
    with pytest.raises(TooLarge):
        await move.run(LimitedSource(source(WHOLE), 3 * PART))

    assert move.pool.lent == 0
    assert len(move.sink.content) <= 3 * PART


@pytest.mark.parametrize("refused", [-1, 0, 1, 2, 8])
async def test_a_failing_store_ends_the_transfer_with_its_own_error(move: Move, refused: int) -> None:
    move.sink.refusals = {refused}
    data = WHOLE[:100] if refused == 0 else WHOLE

    with pytest.raises(StorageUnavailable):
        await move.run(source(data))

    assert move.pool.lent == 0
    assert move.sink.running == 0


async def test_failing_to_note_the_upload_ends_the_transfer(move: Move) -> None:
    async def on_begin() -> None:
        raise StorageUnavailable("the database is full")

    with pytest.raises(StorageUnavailable, match="database"):
        await move_buffered(
            source(WHOLE),
            move.sink,
            pool=move.pool,
            meter=Meter(move.readings.append, total=None),
            threads=move.threads,
            on_begin=on_begin,
        )

    assert move.pool.lent == 0


async def test_a_part_that_is_sent_again_is_counted_once(move: Move) -> None:
    move.sink.replays = {1: 2, 3: 1}

    await move.run(source(WHOLE))

    assert move.sink.content == WHOLE
    assert move.readings[-1].downloaded == move.readings[-1].uploaded == len(WHOLE)


async def test_without_a_digest_nothing_is_hashed(move: Move) -> None:
    assert (await move.run(source(WHOLE), "never")).sha256 is None


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    cancelled=st.none() | st.integers(0, 120),
    refused=st.none() | st.integers(1, 8),
    fails=st.booleans(),
    budget=st.integers(1, 6),
)
async def test_however_it_ends_nothing_is_left(
    threads: ThreadPoolExecutor, seed: int, cancelled: int | None, refused: int | None, fails: bool, budget: int
) -> None:
    dice = random.Random(seed)
    move = Move(threads, MemorySink(turns=dice, accepts_stream=dice.random() < 0.5), BufferPool(budget * PART))
    move.sink.refusals = set() if refused is None else {0 if move.sink.accepts_stream else refused}
    before = asyncio.all_tasks()

    failure = SourceTruncated("broke off") if fails else None
    given_to: Source = source(WHOLE, fails=failure, turns=dice.random() < 0.5)
    if dice.random() < 0.5:
        given_to = Hasty(WHOLE, dice, failure)
    running = asyncio.get_running_loop().create_task(move.run(given_to, dice.choice(["auto", "always", "never"])))
    for _ in range(cancelled or 0):
        await asyncio.sleep(0)
    if cancelled is not None:
        running.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([running])

    assert asyncio.all_tasks() - before == set()
    assert move.pool.lent == 0
    assert move.sink.running == 0
    if running.cancelled():
        assert cancelled is not None
    elif running.exception() is None:
        assert (refused, fails) == (None, False)
        assert move.sink.content == WHOLE
    else:
        assert isinstance(running.exception(), SourceTruncated | StorageUnavailable)
