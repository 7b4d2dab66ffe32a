from __future__ import annotations

import time

import pytest

from mediagen.tasks import dispatcher as dispatcher_module
from mediagen.tasks.dispatcher import LaneDispatcher
from tests.contracts.dispatcher import Desk, DispatcherContract, running


class TestLaneDispatcher(DispatcherContract):
    @pytest.fixture
    def dispatcher(self) -> LaneDispatcher:
        return LaneDispatcher({"a": 2, "b": 1})


async def test_waiting_counts_so_that_low_never_starves(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher = LaneDispatcher({"a": 1}, seconds_per_point=6)
    start = time.monotonic()
    monkeypatch.setattr(dispatcher_module, "monotonic", lambda: start)
    dispatcher.enqueue("old and low", lane="a", priority=10)

    for waited, expected in ((239, ["urgent", "old and low"]), (241, ["old and low", "urgent"])):
        monkeypatch.setattr(dispatcher_module, "monotonic", lambda waited=waited: start + waited)
        dispatcher.enqueue("urgent", lane="a", priority=50)
        assert sorted(("urgent", "old and low"), key=lambda task_id: dispatcher.position(task_id) or 0) == expected
        dispatcher.revoke("urgent")


async def test_a_handler_that_raises_ends_it_loudly() -> None:
    dispatcher = LaneDispatcher({"a": 1})
    dispatcher.enqueue("one", lane="a", priority=1)

    async def broken(task_id: str) -> None:
        raise ValueError(task_id)

    with pytest.raises(ExceptionGroup):
        await dispatcher.run(broken)


async def test_thousands_wait_in_order() -> None:
    dispatcher = LaneDispatcher({"a": 1})
    for number in range(2000):
        dispatcher.enqueue(f"t{number:04}", lane="a", priority=number % 5)
    for number in range(0, 2000, 2):
        dispatcher.revoke(f"t{number:04}")

    assert dispatcher.waiting == 1000
    desk = Desk()
    async with running(dispatcher, desk):
        for number in range(1, 301):
            desk.let_go((await desk.began(number))[-1])
    expected = sorted(range(1, 2000, 2), key=lambda number: (-(number % 5), number))
    assert desk.begun[:300] == [f"t{number:04}" for number in expected[:300]]
