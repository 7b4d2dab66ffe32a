from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.core.progress import Transfer
from mediagen.streams import meter as meter_module
from mediagen.streams.base import MIB
from mediagen.streams.meter import RATE_WINDOW, Meter, TransferTotals


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def metered(**settings: int | None) -> tuple[Meter, list[Transfer], Clock]:
    readings: list[Transfer] = []
    clock = Clock()
    return (
        Meter(readings.append, total=settings.get("total"), already=settings.get("already") or 0, clock=clock),
        readings,
        clock,
    )


@given(st.lists(st.integers(1, 3 * MIB), max_size=40))
def test_a_reading_at_least_once_a_mebibyte(counts: list[int]) -> None:
    meter, readings, _ = metered()
    last = 0

    for count in counts:
        meter.receive(count)
        unsaid = meter.downloaded - (readings[-1].downloaded if readings else 0)
        assert unsaid < MIB
        last += count

    assert meter.downloaded == last
    assert len(readings) == meter.readings


def test_small_steps_are_not_read_one_by_one() -> None:
    meter, readings, _ = metered(total=10 * MIB)

    for _ in range(10 * 256):
        meter.receive(4096)

    assert len(readings) == 10
    assert readings[0] == Transfer(MIB, 0, 10 * MIB, 0.0)


@given(st.lists(st.tuples(st.integers(1, 2 * MIB), st.booleans()), max_size=30))
def test_bytes_that_come_again_count_once(parts: list[tuple[int, bool]]) -> None:
    meter, readings, _ = metered(total=sum(size for size, _ in parts))

    for size, replayed in parts:
        if replayed:
            meter.receive(size // 2)
            meter.receive(-(size // 2))
        meter.receive(size)
        meter.store(size)
    meter.finish()

    whole = sum(size for size, _ in parts)
    assert readings[-1] == Transfer(whole, whole, whole, readings[-1].bytes_per_second)
    assert all(0 <= reading.uploaded <= reading.downloaded <= whole for reading in readings)


def test_what_an_earlier_run_had_counts_as_done_and_not_for_the_rate() -> None:
    meter, readings, clock = metered(total=100 * MIB, already=90 * MIB)

    clock.now += 1
    meter.receive(2 * MIB)

    assert readings == [Transfer(92 * MIB, 90 * MIB, 100 * MIB, 2.0 * MIB)]
    assert readings[0].percent == 92
    assert readings[0].remaining_seconds == pytest.approx(5.0)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter, readings, clock = metered(total=None)

    for _ in range(10):
        clock.now += 1
        meter.receive(10 * MIB)
    for _ in range(10):
        clock.now += 1
        meter.receive(MIB)

    assert readings[9].bytes_per_second == pytest.approx(10 * MIB)
    assert readings[-1].bytes_per_second == pytest.approx(MIB)
    clock.now += 100 * RATE_WINDOW
    meter.store(1)
    assert readings[-1].bytes_per_second < MIB / 2


def test_the_rate_is_never_negative_nor_divided_by_nothing() -> None:
    meter, readings, clock = metered(total=None)

    meter.receive(5 * MIB)
    meter.receive(-5 * MIB)
    clock.now += 1
    meter.receive(-1)

    assert [reading.bytes_per_second for reading in readings] == [0.0, 0.0, 0.0]


def test_samples_of_a_long_transfer_are_bounded() -> None:
    meter, _, clock = metered(total=None)

    for _ in range(10_000):
        clock.now += 0.01
        meter.receive(MIB)

    assert len(meter._samples) < 10 * RATE_WINDOW + 5


def test_the_total_is_unknown_until_the_end() -> None:
    meter, readings, _ = metered(total=None)

    meter.receive(MIB)
    meter.store(MIB)
    assert (readings[-1].total, readings[-1].percent, readings[-1].stage) == (None, None, "download")
    meter.finish()
    assert (readings[-1].total, readings[-1].percent, readings[-1].stage) == (MIB, 99, "upload")


def test_an_empty_transfer_has_a_last_reading() -> None:
    meter, readings, _ = metered(total=0)

    meter.finish()

    assert readings == [Transfer(0, 0, 0, 0.0)]
    assert readings[0].percent == 99


def test_the_tally_counts_each_byte_once() -> None:
    tally = TransferTotals()
    meter = Meter(lambda _: None, total=None, already=1000, tally=tally)

    meter.receive(100)
    meter.receive(-100)
    meter.receive(100)
    meter.store(100)
    meter.receive(50)
    meter.store(50)
    meter.finish()

    assert (tally.received, tally.stored) == (150, 150)


def test_bytes_that_come_slowly_are_told_at_each_look() -> None:
    meter, readings, clock = metered(total=MIB)

    for _ in range(20):
        clock.now += 0.5
        meter.count(5_000)
        meter.tick()

    assert [reading.downloaded for reading in readings] == [5_000 * number for number in range(1, 21)]
    assert readings[-1].bytes_per_second == pytest.approx(10_000, rel=0.2)
    assert readings[-1].percent == 9


def test_a_stall_is_told_once_as_a_rate_of_nothing() -> None:
    meter, readings, clock = metered(total=MIB)
    meter.count(100_000)
    clock.now += 0.5
    meter.tick()

    for _ in range(60):
        clock.now += 0.5
        meter.tick()
    stalled = list(readings)
    meter.count(100_000)
    meter.tick()

    assert [reading.bytes_per_second > 0 for reading in stalled] == [True, False]
    assert stalled[-1].remaining_seconds is None
    assert (readings[-1].downloaded, readings[-1].bytes_per_second > 0) == (200_000, True)


def test_when_all_has_come_the_rate_is_that_of_the_store() -> None:
    meter, readings, clock = metered(total=40 * MIB)
    clock.now += 1
    meter.receive(40 * MIB)

    for _ in range(20):
        clock.now += 1
        meter.store(2 * MIB)

    storing = readings[10:-1]
    assert {reading.stage for reading in storing} == {"upload"}
    assert [reading.bytes_per_second for reading in storing] == pytest.approx([2 * MIB] * len(storing), rel=0.01)


async def test_ticking_ends_with_the_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter_module, "TICK_SECONDS", 0.001)
    told = asyncio.Event()
    meter = Meter(lambda _: told.set(), total=None)

    with meter.ticking():
        async with asyncio.timeout(10):
            await told.wait()
    told.clear()
    meter.count(1)
    await asyncio.sleep(0.02)

    assert not told.is_set()
