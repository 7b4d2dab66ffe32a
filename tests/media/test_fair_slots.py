"""Slots shared fairly between owners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mediagen.media.fair_slots import FairSlots


class Holders:
    """Tasks that hold, or wait for, a place until they are let go."""

    def __init__(self, places: FairSlots, group: asyncio.TaskGroup) -> None:
        self._slots = places
        self._group = group
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def come(self, *names: str) -> None:
        """``a1`` is the first of owner ``a``; ``-1`` has no owner."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self.tasks[name] = self._group.create_task(self._hold(name))
        await settled()

    async def go(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
        await settled()

    async def _hold(self, name: str) -> None:
        async with self._slots.slot(None if name[0] == "-" else name[0]):
            self.inside.append(name)
            try:
                await self._ends[name].wait()
            finally:
                self.inside.remove(name)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def holders(count: int) -> AsyncIterator[Holders]:
    async with asyncio.TaskGroup() as group:
        made = Holders(FairSlots(count), group)
        yield made
        await made.go(*made.tasks)


@pytest.mark.parametrize(("count", "most"), [(1, 1), (2, 1), (3, 2), (4, 2), (64, 32)])
async def test_an_owner_has_half_of_the_places(count: int, most: int) -> None:
    async with holders(count) as crowd:
        await crowd.come(*(f"a{number}" for number in range(count + 1)))
        assert len(crowd.inside) == most
        await crowd.come("b1")
        assert ("b1" in crowd.inside) == (count > 1)


async def test_owners_take_turns() -> None:
    async with holders(1) as crowd:
        await crowd.come("a1", "a2", "a3", "b1", "b2", "c1")
        seen = []
        for _ in range(6):
            (name,) = crowd.inside
            seen.append(name)
            await crowd.go(name)

    assert seen == ["a1", "a2", "b1", "c1", "a3", "b2"]


async def test_callers_without_an_owner_have_all_places() -> None:
    async with holders(2) as crowd:
        await crowd.come("-1", "-2", "-3")
        assert crowd.inside == ["-1", "-2"]
        await crowd.go("-1")
        assert crowd.inside == ["-2", "-3"]


async def test_one_that_waits_and_goes_leaves_nothing() -> None:
    async with holders(1) as crowd:
        await crowd.come("a1", "a2", "b1")
        crowd.tasks["a2"].cancel()
        await settled()
        await crowd.go("a1")
        assert crowd.inside == ["b1"]


async def test_one_that_goes_as_its_place_comes_gives_it_back() -> None:
    async with holders(1) as crowd:
        await crowd.come("a1", "b1", "c1")
        crowd.tasks["a1"].cancel()
        crowd.tasks["b1"].cancel()
        await settled()
        assert crowd.inside == ["c1"]

    async with holders(1) as crowd:
        await crowd.come("a1", "b1")
        crowd._ends["a1"].set()
        await asyncio.sleep(0)  # a1 goes, and the place is b1's
        crowd.tasks["b1"].cancel()
        await crowd.come("c1")
        assert crowd.inside == ["c1"]
