"""A clock that is set, starts wrong, or goes back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mediagen.core.clock import BELIEVED_AFTER, Clock, steady_seconds
from tests.core.clocks import Times

HOUR, DAY, YEAR = timedelta(hours=1), timedelta(days=1), timedelta(days=365)


def test_the_real_clocks_agree() -> None:
    clock = Clock()

    assert clock.doubt() is None
    assert clock.known() <= clock.latest()
    assert steady_seconds() <= steady_seconds()


@pytest.mark.parametrize("step", [-86_400.0, -2.0, 2.0, 86_400.0])
def test_steps_are_told_before_the_time_is(step: float) -> None:
    times, told = Times(), list[timedelta]()
    clock = times.clock()
    clock.on_step(told.append)
    times.pass_by(hours=1)
    clock.now()
    assert told == []

    times.pass_by(seconds=5)
    times.set(seconds=step)

    assert clock.now() == times.wall
    assert [one.total_seconds() for one in told] == [pytest.approx(step)]
    clock.now()
    assert len(told) == 1


def test_slewing_is_no_step() -> None:
    times, told = Times(), list[timedelta]()
    clock = times.clock()
    clock.on_step(told.append)

    for _ in range(100):
        times.pass_by(seconds=1)
        times.set(seconds=0.4)
        clock.now()

    assert told == []
    assert clock.doubt() is None


@pytest.mark.parametrize("ahead", [timedelta(), HOUR, DAY])
def test_a_rest_of_a_day_is_believed(ahead: timedelta) -> None:
    times = Times()

    clock = times.clock(known=times.wall - ahead)

    assert clock.doubt() is None
    assert clock.known() == times.wall


@pytest.mark.parametrize("ahead", [2 * DAY, 10 * YEAR, -HOUR, -10 * YEAR])
def test_what_is_far_from_the_recorded_time_is_in_doubt(ahead: timedelta) -> None:
    times = Times()
    known = times.wall - ahead
    clock = times.clock(known=known)

    times.pass_by(hours=1)

    assert clock.doubt() == ahead
    assert clock.known() == known + HOUR, "the recorded time goes on, so that a restart still knows"
    assert clock.latest() == max(times.wall, known + HOUR)
    assert clock.believed_in() == BELIEVED_AFTER - 3600


def test_a_clock_that_is_put_right_is_believed_at_once() -> None:
    times = Times()
    clock = times.clock(known=times.wall - HOUR)
    times.set(days=4000)
    assert clock.doubt() == timedelta(days=4000)
    times.pass_by(minutes=3)

    times.set(days=-4000)

    assert clock.doubt() is None
    assert clock.latest() == times.wall


def test_doubt_ends_after_a_day_without_a_step_or_when_somebody_confirms() -> None:
    times = Times()
    clock = times.clock(known=times.wall - YEAR)
    times.pass_by(hours=23)
    assert clock.doubt() == YEAR
    times.set(hours=5)
    assert clock.doubt() is not None
    times.pass_by(hours=23)
    assert clock.doubt() is not None, "a day since the last step"
    times.pass_by(hours=2)
    assert (clock.doubt(), clock.believed_in()) == (None, 0.0)

    times.set(days=-2)
    assert clock.doubt() is not None
    clock.confirm()
    assert clock.doubt() is None
    assert clock.known() == clock.latest() == times.wall


def test_what_has_ended_stays_ended_when_the_clock_goes_back() -> None:
    times = Times()
    clock = times.clock()
    ends = times.wall + HOUR
    times.pass_by(hours=2)
    assert clock.latest() > ends

    times.set(days=-3)

    assert clock.now() < ends < clock.latest()
    times.pass_by(hours=1)
    assert clock.latest() > ends
