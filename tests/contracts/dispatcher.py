"""What every dispatcher must do; the fixture ``dispatcher`` has lane ``a`` with 2 slots and lane ``b`` with 1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mediagen.tasks.ports import Dispatcher


class Desk:
    """Handles task ids: each stays until it is let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self._doors: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Condition()

    async def handle(self, task_id: str) -> None:
        door = self._doors[task_id] = asyncio.Event()
        self.begun.append(task_id)
        async with self._changed:
            self._changed.notify_all()
        try:
            await door.wait()
        finally:
            self.ended.append(task_id)

    def let_go(self, task_id: str) -> None:
        self._doors[task_id].set()

    async def began(self, number: int) -> list[str]:
        """The first ``number`` that began, once there are so many."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: len(self.begun) >= number)
        return self.begun[:number]


@asynccontextmanager
async def running(dispatcher: Dispatcher, desk: Desk) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        work = group.create_task(dispatcher.run(desk.handle))
        yield
        work.cancel()


async def settled() -> None:
    """Let everything that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


class DispatcherContract:
    """Inherit, and give ``dispatcher``."""

    @pytest.fixture
    def desk(self) -> Desk:
        return Desk()

    async def test_a_lane_runs_as_many_at_once_as_it_has_slots(self, dispatcher: Dispatcher, desk: Desk) -> None:
        for number in range(4):
            dispatcher.enqueue(f"a{number}", lane="a", priority=50)
            dispatcher.enqueue(f"b{number}", lane="b", priority=50)

        async with running(dispatcher, desk):
            assert set(await desk.began(3)) == {"a0", "a1", "b0"}
            await settled()
            assert len(desk.begun) == 3
            assert dispatcher.waiting == 5
            desk.let_go("b0")
            assert (await desk.began(4))[3] == "b1"

    async def test_higher_priority_goes_first_and_equals_in_order_of_arrival(
        self, dispatcher: Dispatcher, desk: Desk
    ) -> None:
        for task_id, priority in (("low", 10), ("first", 50), ("second", 50), ("high", 90)):
            dispatcher.enqueue(task_id, lane="b", priority=priority)
        assert [dispatcher.position(task_id) for task_id in ("high", "first", "second", "low")] == [0, 1, 2, 3]

        async with running(dispatcher, desk):
            for number, task_id in enumerate(("high", "first", "second", "low"), 1):
                assert (await desk.began(number))[-1] == task_id
                assert dispatcher.position(task_id) is None
                desk.let_go(task_id)

    async def test_another_priority_moves_a_waiting_task(self, dispatcher: Dispatcher, desk: Desk) -> None:
        dispatcher.enqueue("one", lane="b", priority=50)
        dispatcher.enqueue("two", lane="b", priority=50)

        dispatcher.reprioritise("two", 60)
        dispatcher.reprioritise("unknown", 60)

        assert (dispatcher.position("two"), dispatcher.position("one")) == (0, 1)
        dispatcher.reprioritise("two", 50)
        assert dispatcher.position("two") == 1  # it keeps its arrival

    async def test_a_revoked_task_does_not_run(self, dispatcher: Dispatcher, desk: Desk) -> None:
        dispatcher.enqueue("one", lane="b", priority=50)
        dispatcher.enqueue("two", lane="b", priority=50)
        dispatcher.revoke("one")
        dispatcher.revoke("one")

        async with running(dispatcher, desk):
            assert await desk.began(1) == ["two"]
            dispatcher.revoke("two")  # it runs: not touched
            await settled()
            assert desk.ended == []

    async def test_a_task_enqueued_twice_waits_once(self, dispatcher: Dispatcher, desk: Desk) -> None:
        dispatcher.enqueue("one", lane="b", priority=50)
        dispatcher.enqueue("one", lane="b", priority=50)
        assert dispatcher.waiting == 1

    async def test_a_task_enqueued_while_it_runs_runs_again_afterwards(
        self, dispatcher: Dispatcher, desk: Desk
    ) -> None:
        async with running(dispatcher, desk):
            dispatcher.enqueue("one", lane="a", priority=50)
            await desk.began(1)
            dispatcher.enqueue("one", lane="a", priority=50)
            await settled()
            assert desk.begun == ["one"]  # never twice at once
            desk.let_go("one")
            assert await desk.began(2) == ["one", "one"]

    async def test_a_lane_that_nobody_set_up_has_one_slot(self, dispatcher: Dispatcher, desk: Desk) -> None:
        dispatcher.enqueue("one", lane="of an older configuration", priority=50)
        dispatcher.enqueue("two", lane="of an older configuration", priority=50)

        async with running(dispatcher, desk):
            await desk.began(1)
            await settled()
            assert desk.begun == ["one"]

    async def test_cancelling_it_cancels_and_awaits_the_handlers(self, dispatcher: Dispatcher, desk: Desk) -> None:
        async with running(dispatcher, desk):
            dispatcher.enqueue("one", lane="a", priority=50)
            dispatcher.enqueue("two", lane="a", priority=50)
            await desk.began(2)

        assert sorted(desk.ended) == ["one", "two"]
