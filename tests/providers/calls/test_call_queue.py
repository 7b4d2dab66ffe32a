"""Whose turn it is: in order, as many as the limit says, none in a pause; nothing is left by those who go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from mediagen.core.errors import (
    ContentRefused,
    MediagenError,
    OutcomeUnknown,
    ProviderBudgetSpent,
    ProviderError,
    ProviderKeyRefused,
    ProviderRateLimited,
    ProviderUnavailable,
    StorageUnavailable,
    UnknownModel,
)
from mediagen.net.retry import RetryPolicy
from mediagen.providers.calls.call_queue import (
    PATIENCE,
    SHORT_PAUSE,
    CallQueue,
    Ending,
    Permit,
    classify_ending,
    is_rejected_before_start,
)
from mediagen.providers.calls.circuit_breaker import FAILURES, FIRST_PAUSE, CircuitState
from tests.providers.calls.clock import Clock

LIMITED = ProviderRateLimited("paid wants to be asked later", retry_after=7.0, status=429)
SICK = ProviderUnavailable("paid failed (500)", status=500)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def call_queue(clock: Clock) -> CallQueue:
    return CallQueue("paid", 2, clock=clock, pauses=RetryPolicy(base=1.0, cap=30.0, random=lambda: 1.0))


class Line:
    """Those who wait for a turn, by a letter; ``came`` is whose turn it was, in order."""

    def __init__(self, call_queue: CallQueue) -> None:
        self._call_queue = call_queue
        self._group: list[asyncio.Task[None]] = []
        self.came: list[str] = []
        self.permits: dict[str, Permit] = {}
        self.failed: dict[str, MediagenError] = {}
        self.waited: list[str] = []

    async def come(self, *letters: str, seconds_left: float = 1800.0, place: int | None = None) -> None:
        for letter in letters:
            task = self._own(self._wait(letter, self._call_queue.place() if place is None else place, seconds_left))
            task.set_name(letter)
        await self.settle()

    async def _wait(self, letter: str, place: int, seconds_left: float) -> None:
        try:
            permit = await self._call_queue.acquire(place, seconds_left, lambda: self.waited.append(letter))
        except MediagenError as exc:
            self.failed[letter] = exc
        else:
            self.came.append(letter)
            self.permits[letter] = permit

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._group.append(task)
        return task

    async def end(self, letter: str, exc: BaseException | None = None) -> None:
        permit = self.permits.pop(letter)
        with suppress(MediagenError), permit:
            if exc is not None:
                raise exc
        await self.settle()

    async def leave(self, letter: str) -> None:
        next(task for task in self._group if task.get_name() == letter).cancel()
        await self.settle()

    @staticmethod
    async def settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def go_home(self) -> None:
        for task in self._group:
            task.cancel()
        await asyncio.wait(self._group or [self._own(asyncio.sleep(0))])


@pytest.fixture
async def line(call_queue: CallQueue) -> AsyncIterator[Line]:
    line = Line(call_queue)
    yield line
    await line.go_home()
    assert call_queue.waiting == 0


def state_of(call_queue: CallQueue) -> CircuitState:
    return call_queue.circuit_breaker.state


async def open_circuit(line: Line) -> None:
    for _ in range(FAILURES):
        await line.come("x")
        await line.end("x", SICK)


async def test_in_order_and_no_more_than_the_limit(call_queue: CallQueue, line: Line) -> None:
    await line.come("a", "b", "c", "d")
    assert (line.came, line.waited, call_queue.waiting) == (["a", "b"], ["c", "d"], 2)

    await line.end("b")
    assert line.came == ["a", "b", "c"]
    await line.end("a", ContentRefused("no"))

    assert (line.came, call_queue.waiting, call_queue.concurrency_limit.in_flight) == (["a", "b", "c", "d"], 0, 2)
    assert call_queue.endings == {Ending.DONE: 1, Ending.REFUSED: 1}


async def test_whoever_was_turned_away_comes_before_those_who_came_later(call_queue: CallQueue, line: Line) -> None:
    first = call_queue.place()
    await line.come("a", "b", "c")

    await line.come("back", place=first)
    await line.end("a")

    assert line.came == ["a", "b", "back"]


async def test_after_a_refusal_nobody_is_let_in_before_the_time(
    call_queue: CallQueue, line: Line, clock: Clock
) -> None:
    await line.come("a", "b", "c", "d")
    await line.end("a", LIMITED)
    await line.end("b", LIMITED)
    assert (line.came, call_queue.concurrency_limit.limit, call_queue.opens_in) == (["a", "b"], 1, 7.0)

    clock.forward(6.9)
    call_queue.serve()
    await line.settle()
    assert line.came == ["a", "b"]
    clock.forward(0.2)
    call_queue.serve()
    await line.settle()

    assert line.came == ["a", "b", "c"], "one at a time now"


async def test_the_end_of_a_pause_is_seen_without_being_told() -> None:
    call_queue = CallQueue("paid", 2)
    with suppress(ProviderRateLimited), await call_queue.acquire(call_queue.place(), 60, lambda: None):
        raise ProviderRateLimited("later", retry_after=0.05)
    waited: list[bool] = []

    with await call_queue.acquire(call_queue.place(), 60, lambda: waited.append(True)):
        assert call_queue.opens_in == 0

    assert waited == [True]


async def test_a_time_that_is_too_far_away_is_said_at_once(call_queue: CallQueue, line: Line) -> None:
    await line.come("a")
    await line.end("a", ProviderRateLimited("the quota of the day is spent", retry_after=PATIENCE + 1, status=429))

    await line.come("b")

    error = line.failed["b"]
    assert isinstance(error, ProviderRateLimited)
    assert (error.retryable, error.retry_after) == (True, PATIENCE + 1)
    assert "121 s" in error.detail
    assert "the quota of the day is spent" in error.detail
    assert call_queue.endings[Ending.NOT_ASKED] == 1


async def test_whoever_has_less_time_than_the_pause_does_not_wait_in_vain(call_queue: CallQueue, line: Line) -> None:
    await line.come("a")
    await line.end("a", LIMITED)

    await line.come("hurried", seconds_left=6.0)
    await line.come("patient", seconds_left=8.0)

    assert list(line.failed) == ["hurried"]
    assert (call_queue.waiting, line.waited) == (1, ["patient"])


async def test_those_who_wait_already_are_told_when_the_pause_becomes_too_long(
    call_queue: CallQueue, line: Line
) -> None:
    await line.come("a", "b", "c")
    assert call_queue.waiting == 1

    await line.end("a", ProviderRateLimited("tomorrow", retry_after=9000.0))

    assert isinstance(line.failed["c"], ProviderRateLimited)


async def test_a_short_pause_of_the_circuit_is_waited_for_and_one_call_finds_out(
    call_queue: CallQueue, line: Line, clock: Clock
) -> None:
    await open_circuit(line)
    assert state_of(call_queue) is CircuitState.OPEN
    line.came.clear()
    await line.come("a", "b", "c")
    assert (line.came, line.failed, call_queue.waiting) == ([], {}, 3)

    clock.forward(FIRST_PAUSE)
    call_queue.serve()
    await line.settle()
    assert line.came == ["a"], "alone, although there is room for two"
    await line.end("a")

    assert state_of(call_queue) is CircuitState.CLOSED
    assert line.came == ["a", "b", "c"]


async def test_a_long_pause_of_the_circuit_is_said_at_once(call_queue: CallQueue, line: Line) -> None:
    await line.come("a", "b", "c")

    await line.end("a", ProviderBudgetSpent("the account at paid has no budget left", status=402))

    error = line.failed["c"]
    assert isinstance(error, ProviderUnavailable)
    assert error.retryable
    assert (error.retry_after or 0) > SHORT_PAUSE
    assert "no budget left" in error.detail


async def test_those_who_wait_behind_a_call_that_takes_long_are_told(
    call_queue: CallQueue, line: Line, clock: Clock
) -> None:
    await open_circuit(line)
    clock.forward(FIRST_PAUSE)
    await line.come("finds_out", "b")
    assert call_queue.waiting == 1

    clock.forward(PATIENCE)
    call_queue.serve()
    await line.settle()

    assert isinstance(line.failed["b"], ProviderUnavailable)
    await line.end("finds_out")
    assert call_queue.circuit_breaker.state is CircuitState.CLOSED


async def test_whoever_goes_away_leaves_nothing(call_queue: CallQueue, line: Line) -> None:
    await line.come("a", "b", "c", "d")

    await line.leave("c")
    assert call_queue.waiting == 1
    await line.end("a")

    assert line.came == ["a", "b", "d"]
    await line.end("b")
    await line.end("d")
    assert (call_queue.concurrency_limit.in_flight, call_queue.waiting) == (0, 0)


async def test_whoever_goes_away_as_its_turn_comes_gives_it_back(call_queue: CallQueue, line: Line) -> None:
    await line.come("a", "b", "c", "d")
    leaving = next(task for task in line._group if task.get_name() == "c")

    with line.permits.pop("a"):
        pass  # c's turn comes here, and c has not run yet
    leaving.cancel()
    await line.settle()

    assert line.came == ["a", "b", "d"]
    assert call_queue.concurrency_limit.in_flight == 2
    assert call_queue.endings[Ending.STOPPED] == 1


async def test_a_cancelled_call_gives_its_room_back_and_says_nothing_of_the_provider(
    call_queue: CallQueue, line: Line, clock: Clock
) -> None:
    await open_circuit(line)
    clock.forward(FIRST_PAUSE)
    await line.come("a")
    permit = line.permits.pop("a")

    with pytest.raises(asyncio.CancelledError), permit:
        raise asyncio.CancelledError

    assert call_queue.circuit_breaker.state is CircuitState.HALF_OPEN
    assert (call_queue.concurrency_limit.in_flight, call_queue.endings[Ending.STOPPED]) == (0, 1)


@pytest.mark.parametrize(
    ("error", "ending", "again", "opens"),
    [
        (ProviderRateLimited("x", status=429), Ending.RATE_LIMITED, True, False),
        (ProviderUnavailable("x", status=503), Ending.UNAVAILABLE, True, True),
        (ProviderUnavailable("no connection"), Ending.UNAVAILABLE, True, True),
        (ProviderUnavailable("x", status=500), Ending.UNAVAILABLE, False, True),
        (ProviderUnavailable("said with 200", status=200), Ending.UNAVAILABLE, False, True),
        (OutcomeUnknown("x"), Ending.UNKNOWN, False, True),
        (ProviderKeyRefused("x", status=401), Ending.KEY, False, True),
        (ProviderKeyRefused("x", status=403), Ending.KEY, False, True),
        (ProviderBudgetSpent("x", status=429), Ending.BUDGET, False, True),
        (ContentRefused("x"), Ending.REFUSED, False, False),
        (UnknownModel("x"), Ending.REFUSED, False, False),
        (ProviderError("html"), Ending.FAILED, False, False),
        (StorageUnavailable("x"), Ending.STOPPED, False, False),
    ],
)
async def test_what_each_failure_means(error: MediagenError, ending: Ending, again: bool, opens: bool) -> None:
    clock = Clock()
    call_queue = CallQueue("paid", 4, clock=clock)

    for _ in range(FAILURES):
        clock.forward(call_queue.concurrency_limit.opens_in)
        if call_queue.circuit_breaker.state is CircuitState.OPEN:
            break
        with suppress(MediagenError), await call_queue.acquire(call_queue.place(), 60, lambda: None):
            raise error

    assert (classify_ending(error), is_rejected_before_start(error)) == (ending, again)
    assert (call_queue.circuit_breaker.state is CircuitState.OPEN) is opens
    assert set(call_queue.endings) == {ending}
    one_is_enough = ending is Ending.BUDGET or error.context.get("status") == 401
    assert call_queue.endings[ending] == (1 if one_is_enough else FAILURES)
