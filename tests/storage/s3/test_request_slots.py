"""The adaptive limit on requests to a store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagen.storage.s3 import request_slots
from mediagen.storage.s3.request_slots import RequestSlots


class Clock:
    """A monotonic clock that moves when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(request_slots, "time", clock)
    return clock


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_no_more_than_the_limit_at_once_and_in_order() -> None:
    limit = RequestSlots(2)
    order: list[int] = []
    gates = [asyncio.Event() for _ in range(6)]

    async def request(number: int) -> None:
        async with limit.slot():
            order.append(number)
            await gates[number].wait()

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(request(number))
        for number in range(6):
            await turns()
            assert order == list(range(min(6, number + 2)))
            assert limit.in_flight == min(2, 6 - number)
            gates[number].set()
    assert limit.in_flight == 0


async def test_half_of_what_is_on_its_way_was_too_much(clock: Clock) -> None:
    """A limit far above what is sent would take many refusals before it is felt at all."""
    limit = RequestSlots(256)

    async with asyncio.TaskGroup() as group:
        done = asyncio.Event()

        async def request() -> None:
            async with limit.slot():
                await done.wait()

        for _ in range(8):
            group.create_task(request())
        await turns()
        limit.throttle()
        assert limit.limit == 4
        limit.throttle()  # another answer of the same moment: one congestion, not two
        assert limit.limit == 4
        clock.now += 1.0
        limit.throttle()
        assert limit.limit == 2
        done.set()


async def test_it_never_falls_below_one_and_grows_back(clock: Clock) -> None:
    limit = RequestSlots(4)
    for _ in range(10):
        async with limit.slot():
            limit.throttle()
        clock.now += 1.0
    assert limit.limit == 1

    grown = [limit.limit]
    for _ in range(20):
        async with limit.slot():
            limit.succeed()
        grown.append(limit.limit)

    assert grown == sorted(grown)
    assert grown[1] == 2
    assert grown[3] < 3.01, "by one in a full round, not with every success"
    assert limit.limit == 4


async def test_growth_lets_those_in_who_wait(clock: Clock) -> None:
    limit = RequestSlots(8)
    async with limit.slot():
        limit.throttle()
    entered = 0
    done = asyncio.Event()

    async def request() -> None:
        nonlocal entered
        async with limit.slot():
            entered += 1
            await done.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(request())
        await turns()
        assert entered == 1
        limit.succeed()
        await turns()
        assert entered == 2
        done.set()


async def test_cancelled_while_another_leaves() -> None:
    """The one who leaves passes over the one who was cancelled, before that one has noticed."""
    limit = RequestSlots(1)
    leave = asyncio.Event()

    async def request(event: asyncio.Event) -> None:
        async with limit.slot():
            await event.wait()

    async with asyncio.TaskGroup() as group:
        first = group.create_task(request(leave))
        await turns()
        second = group.create_task(request(asyncio.Event()))
        third = group.create_task(request(leave))
        await turns()
        leave.set()  # the first leaves in the next turn of the loop, and after it the second hears of its end
        second.cancel()
        await asyncio.wait({first, second, third})

    assert second.cancelled()
    assert limit.in_flight == 0


async def test_cancelled_with_a_slot_in_hand() -> None:
    """Served and cancelled in the same turn: the slot goes on to the next."""
    limit = RequestSlots(1)
    leave = asyncio.Event()

    async def request() -> None:
        async with limit.slot():
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        first = group.create_task(request())
        await turns()
        second, third = group.create_task(request()), group.create_task(request())
        await turns()
        leave.set()
        first.add_done_callback(lambda _: second.cancel())  # runs after the slot was handed on
        await asyncio.wait({first, second, third})

    assert limit.in_flight == 0
    assert not third.cancelled()


STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "succeed", "throttle", "cancel", "turn", "second"]), st.integers(0, 20)),
    max_size=60,
)


@settings(max_examples=60)
@given(maximum=st.integers(1, 12), steps=STEPS)
def test_whatever_happens_it_stays_within_bounds_and_lets_all_through(
    maximum: int, steps: list[tuple[str, int]]
) -> None:
    async def play() -> None:
        limit = RequestSlots(maximum)
        clock = Clock()
        waiting: list[tuple[asyncio.Task[None], asyncio.Event]] = []
        through = 0

        async def request(end: asyncio.Event, outcome: list[Callable[[], None]]) -> None:
            nonlocal through
            async with limit.slot():
                assert 0 < limit.in_flight <= maximum
                await end.wait()
                for call in outcome:
                    call()
            through += 1

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(request_slots, "time", clock)
            async with asyncio.TaskGroup() as group:
                outcomes: list[list[Callable[[], None]]] = []
                for step, number in steps:
                    if step == "enter":
                        end = asyncio.Event()
                        outcomes.append([])
                        waiting.append((group.create_task(request(end, outcomes[-1])), end))
                    elif step == "turn":
                        await turns(number % 4)
                    elif step == "second":
                        clock.now += 1.0
                    elif waiting:
                        task, end = waiting[number % len(waiting)]
                        if step == "cancel":
                            task.cancel()
                        else:
                            call = limit.succeed if step == "succeed" else limit.throttle
                            outcomes[number % len(waiting)].append(call)
                            end.set()
                    assert 1 <= limit.limit <= maximum
                    assert 0 <= limit.in_flight <= maximum
                for _, end in waiting:
                    end.set()
        assert limit.in_flight == 0
        assert through == sum(not task.cancelled() for task, _ in waiting)

    asyncio.run(play())
