from __future__ import annotations

import hashlib
import random
import zlib

import pytest

from mediagen.core.errors import StorageFull, TooLarge
from mediagen.core.progress import Transfer
from mediagen.streams.base import KIB, MIB, Source
from mediagen.streams.digest import InlineSha256, Sha256Mode
from mediagen.streams.meter import Meter
from mediagen.streams.pool import BufferPool
from mediagen.streams.scratch import NARROW, ScratchBuffer
from mediagen.streams.sources import LimitedSource
from mediagen.streams.streamed_body import StreamedBody
from tests.infra.content import content_bytes
from tests.streams.targets import THREADS, Gathering

WHOLE = content_bytes(6 * MIB + 5, 5)


class Ready:
    """A source that has everything at hand, given in pieces of up to ``piece`` bytes."""

    size: int | None = None

    def __init__(self, data: bytes, piece: int = MIB) -> None:
        self._left = memoryview(data)
        self._piece = piece

    async def read_into(self, buffer: memoryview, /) -> int:
        return self.try_read(buffer, within=0)

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        count = min(len(buffer), len(self._left), self._piece)
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class Picky:
    """A target that takes now all, now some, now nothing without a pause; ``full_at`` it is full."""

    def __init__(self, *, full_at: int | None = None) -> None:
        self.data = bytearray()
        self._dice = random.Random(3)
        self._full_at = full_at

    async def write(self, view: memoryview, /) -> None:
        self.data += view
        if self._full_at is not None and len(self.data) > self._full_at:
            raise StorageFull("no space left for media")

    def try_write(self, view: memoryview, /, *, within: float) -> int:
        if self._full_at is not None and len(self.data) + len(view) > self._full_at:
            raise StorageFull("no space left for media")
        count = self._dice.choice([0, len(view) // 3, len(view), len(view), len(view)])
        self.data += view[:count]
        return count


async def passing(
    source: Source, mode: Sha256Mode = "always", pool: BufferPool | None = None
) -> tuple[StreamedBody, InlineSha256, list[Transfer]]:
    readings: list[Transfer] = []
    sha256 = InlineSha256(mode)
    meter = Meter(readings.append, total=None)
    scratch = await ScratchBuffer(pool or BufferPool(MIB), 512 * KIB).__aenter__()
    return StreamedBody(source, scratch, meter=meter, threads=THREADS, sha256=sha256), sha256, readings


@pytest.mark.parametrize("piece", [1000, 70 * KIB, 200 * KIB, MIB])
async def test_what_passes_arrives_as_it_is(piece: int) -> None:
    body, sha256, readings = await passing(Ready(WHOLE, piece))
    target = Picky()

    await body.write_to(target)

    assert target.data == WHOLE
    assert (len(body), body.crc32, sha256.hexdigest()) == (
        len(WHOLE),
        zlib.crc32(WHOLE),
        hashlib.sha256(WHOLE).hexdigest(),
    )
    assert (readings[-1].downloaded, readings[-1].uploaded) == (len(WHOLE), len(WHOLE))
    assert len(readings) < 50


async def test_what_comes_slowly_is_written_in_larger_pieces() -> None:
    body, _, _ = await passing(Ready(WHOLE[: 2 * MIB], 1000))
    target = Gathering()

    await body.write_to(target)

    assert target.content == WHOLE[: 2 * MIB]
    assert len(target.pieces) <= 9


class Breathless(Ready):
    """Always ahead, but a thread gets no more than 2 MiB in a row."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._in_a_row = 0

    async def read_into(self, buffer: memoryview, /) -> int:
        self._in_a_row = 0
        return await super().read_into(buffer)

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        count = super().try_read(buffer, within=within) if self._in_a_row < 2 * MIB else 0
        self._in_a_row += count
        return count


async def test_a_pause_of_the_thread_is_none_of_the_source() -> None:
    body, sha256, _ = await passing(Breathless(bytes(30 * MIB)), "auto")

    await body.write_to(Gathering())

    assert sha256.hexdigest() is None


async def test_it_comes_once() -> None:
    body, _, _ = await passing(Ready(b"abc"))
    await body.write_to(Picky())

    with pytest.raises(RuntimeError, match="once"):
        await body.write_to(Picky())
    with pytest.raises(RuntimeError, match="read ahead"):
        body.read_ahead(0, 1)


async def test_a_limit_and_a_full_disk_are_told_from_the_thread_too() -> None:
    for at in (10, 300_000, 3 * MIB):
        limited, _, _ = await passing(LimitedSource(Ready(WHOLE), at))
        with pytest.raises(TooLarge):
            await limited.write_to(Picky())

        full, _, _ = await passing(Ready(WHOLE))
        with pytest.raises(StorageFull):
            await full.write_to(Picky(full_at=at))


def test_a_digest_is_given_up_only_when_the_source_is_ahead_for_long() -> None:
    piece = memoryview(bytes(256 * KIB))

    for mode, alive in (("auto", False), ("always", True), ("never", False)):
        sha256 = InlineSha256(mode)  # type: ignore[arg-type]
        for _ in range(65):
            sha256.update(piece, plenty=True)
        assert (sha256.alive, sha256.hexdigest() is not None) == (alive, alive)

    patient = InlineSha256("auto")
    for number in range(300):
        patient.update(piece, plenty=number % 60 > 0)
    assert patient.hexdigest() == hashlib.sha256(bytes(300 * 256 * KIB)).hexdigest()


class Paced:
    """A source whose clock the test moves: each read takes ``seconds``."""

    size: int | None = None

    def __init__(self, data: bytes, clock: Clock, seconds: list[float], piece: int) -> None:
        self._ready = Ready(data, piece)
        self._clock = clock
        self._seconds = seconds

    async def read_into(self, buffer: memoryview, /) -> int:
        self._clock.now += self._seconds.pop(0) if self._seconds else 0.0
        return await self._ready.read_into(buffer)


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


async def test_a_slow_source_leaves_the_pool_to_others_and_a_quick_one_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, pool, lent = Clock(), BufferPool(MIB), []
    monkeypatch.setattr("mediagen.streams.streamed_body.time", clock)
    data = content_bytes(2 * MIB + 5, 7)
    source = Paced(data, clock, [0.0] * 4 + [1.5] * 4, 20 * KIB)

    class Watching(Picky):
        def try_write(self, view: memoryview, /, *, within: float) -> int:
            lent.append(pool.lent)
            return super().try_write(view, within=within)

    body, sha256, _ = await passing(source, pool=pool)
    target = Watching()
    await body.write_to(target)

    assert target.data == data
    assert sha256.hexdigest() == hashlib.sha256(data).hexdigest()
    assert lent[0] == 512 * KIB  # it began as if it were quick
    assert NARROW in lent
    assert lent[-1] == 512 * KIB  # and was quick again


async def test_where_the_pool_has_no_room_a_small_buffer_does() -> None:
    pool = BufferPool(512 * KIB)
    held = await pool.acquire(512 * KIB - NARROW)

    body, _, _ = await passing(Ready(WHOLE), pool=pool)
    target = Picky()
    await body.write_to(target)
    pool.release(held)

    assert target.data == WHOLE
    assert pool.lent == NARROW
