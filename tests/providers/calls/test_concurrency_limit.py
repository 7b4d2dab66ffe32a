"""The limit of paid calls: halved by a refusal, one more for each window that got through."""

from __future__ import annotations

import pytest

from mediagen.net.retry import RetryPolicy
from mediagen.providers.calls.concurrency_limit import LONGEST_PAUSE, ConcurrencyLimit
from tests.providers.calls.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> ConcurrencyLimit:
    return ConcurrencyLimit(16, clock, pauses=RetryPolicy(base=1.0, cap=30.0, random=lambda: 1.0))


def refuse(limiter: ConcurrencyLimit, *windows: int, retry_after: float | None = 0.0, crowded: bool = True) -> None:
    for window in windows:
        limiter.refused(window, "slow down", retry_after=retry_after, crowded=crowded)


def test_calls_refused_together_halve_it_once(limiter: ConcurrencyLimit) -> None:
    windows = [limiter.begin() for _ in range(16)]
    assert not limiter.has_room

    refuse(limiter, *windows[:14])

    assert (limiter.limit, limiter.in_flight) == (8, 16)


def test_it_never_falls_below_one(limiter: ConcurrencyLimit) -> None:
    for _ in range(10):
        refuse(limiter, limiter.begin())

    assert limiter.limit == 1


def test_a_window_that_got_through_gives_one_more_up_to_the_ceiling(limiter: ConcurrencyLimit) -> None:
    refuse(limiter, limiter.begin(), limiter.begin())
    refuse(limiter, limiter.begin())
    assert limiter.limit == 4

    limits = []
    for _ in range(4 + 5):
        limiter.passed(limiter.begin())
        limits.append(limiter.limit)

    assert limits == [4, 4, 4, 5, 5, 5, 5, 5, 6]
    for _ in range(1000):
        limiter.passed(limiter.begin())
    assert limiter.limit == limiter.ceiling == 16


def test_calls_of_before_the_refusal_say_nothing_of_the_limit_of_now(limiter: ConcurrencyLimit) -> None:
    windows = [limiter.begin() for _ in range(16)]
    refuse(limiter, windows[0])

    for window in windows[1:]:
        limiter.passed(window)

    assert limiter.limit == 8


def test_the_time_that_was_told_is_kept(limiter: ConcurrencyLimit, clock: Clock) -> None:
    refuse(limiter, limiter.begin(), retry_after=7.0)

    assert limiter.opens_in == 7.0
    clock.forward(6.5)
    assert limiter.opens_in == 0.5
    clock.forward(0.5)
    assert limiter.opens_in == 0.0


def test_the_latest_time_counts_also_of_a_call_of_the_same_window(limiter: ConcurrencyLimit) -> None:
    windows = [limiter.begin() for _ in range(3)]

    refuse(limiter, windows[0], retry_after=2.0)
    refuse(limiter, windows[1], retry_after=9.0)
    refuse(limiter, windows[2], retry_after=1.0)

    assert limiter.opens_in == 9.0


def test_without_a_time_the_pauses_grow_until_a_call_gets_through(limiter: ConcurrencyLimit, clock: Clock) -> None:
    pauses = []
    for _ in range(7):
        refuse(limiter, limiter.begin(), retry_after=None)
        pauses.append(limiter.opens_in)
        clock.forward(limiter.opens_in)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]

    limiter.passed(limiter.begin())
    refuse(limiter, limiter.begin(), retry_after=None)

    assert limiter.opens_in == 1


def test_no_answer_shuts_it_for_good(limiter: ConcurrencyLimit) -> None:
    refuse(limiter, limiter.begin(), retry_after=1e9)

    assert limiter.opens_in == LONGEST_PAUSE


def test_one_that_cannot_be_reached_is_no_crowd(limiter: ConcurrencyLimit) -> None:
    refuse(limiter, limiter.begin(), retry_after=None, crowded=False)

    assert (limiter.limit, limiter.opens_in) == (16, 1)
