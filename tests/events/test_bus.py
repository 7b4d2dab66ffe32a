from __future__ import annotations

import asyncio

import pytest

from mediagen.events.bus import MemoryBus
from tests.contracts.event_bus import EventBusContract, progress, status, waiting


class TestMemoryBus(EventBusContract):
    @pytest.fixture
    def bus(self) -> MemoryBus:
        return MemoryBus(3, remembered=8, max_facts=5)


def test_numbers_of_a_later_start_are_higher() -> None:
    early, late = MemoryBus(7), MemoryBus(8)
    for _ in range(10_000):
        early.next_seq()

    assert early.next_seq() < late.next_seq() < 2**53


@pytest.mark.parametrize("boot", [-1, 2**21])
def test_a_boot_that_does_not_fit_is_refused(boot: int) -> None:
    with pytest.raises(ValueError):
        MemoryBus(boot)


async def test_closing_ends_readers_after_what_they_have_waiting() -> None:
    bus = MemoryBus(1)
    async with bus.subscribe(None) as busy, bus.subscribe(None) as idle:
        asleep = asyncio.get_running_loop().create_task(waiting_for_the_end(idle))
        await asyncio.sleep(0)
        event = status(bus)
        bus.publish(event)
        bus.close()

        assert [each async for each in busy] == [event]
        assert await asleep == 1
    async with bus.subscribe(None) as late:
        assert [each async for each in late] == []


async def waiting_for_the_end(reader: object) -> int:
    return len([each async for each in reader])  # type: ignore[attr-defined]


async def test_leaving_forgets_the_reader() -> None:
    bus = MemoryBus(1)
    async with bus.subscribe(frozenset({"task_one", "task_two"})) as reader:
        assert bus.readers == 1
    bus.publish(status(bus))

    assert bus.readers == 0
    assert [each async for each in reader] == []


async def test_thousands_of_dead_readers_hold_one_reading_each() -> None:
    bus = MemoryBus(1)
    async with bus.subscribe(None) as alive:
        stack = [bus.subscribe(frozenset({"task_one"})) for _ in range(500)]
        readers = [await reader.__aenter__() for reader in stack]
        for percent in range(50):
            bus.publish(progress(bus, percent))
        assert [len(await waiting(reader)) for reader in (alive, *readers[:3])] == [1, 1, 1, 1]
        for reader in stack:
            await reader.__aexit__(None, None, None)
    assert bus.readers == 0
