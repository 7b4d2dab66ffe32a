from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from mediagen.core.progress import Progress, Transfer
from mediagen.core.tasks import TaskStatus
from mediagen.tasks.timing import elapsed_seconds, poll_after_seconds, remaining_seconds
from tests.contracts.journal import NOW, a_task

RUNNING = a_task(status=TaskStatus.RUNNING, started_at=NOW)


def later(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def test_elapsed_runs_from_the_start_to_the_end() -> None:
    assert elapsed_seconds(a_task(), NOW + later(5)) == 0
    assert elapsed_seconds(RUNNING, NOW + later(5)) == 5
    assert elapsed_seconds(RUNNING, NOW - later(5)) == 0  # the clock was set back
    ended = RUNNING.to(TaskStatus.FAILED, now=NOW, ended_at=NOW + later(3))
    assert elapsed_seconds(ended, NOW + later(50)) == 3


def test_remaining_is_what_the_reading_says_or_unknown() -> None:
    assert remaining_seconds(RUNNING) is None
    assert remaining_seconds(replace(RUNNING, progress=Progress("x", 1))) is None
    assert remaining_seconds(replace(RUNNING, progress=Progress("x", 1, remaining_seconds=7))) == 7
    transfer = Transfer(downloaded=60, uploaded=50, total=100, bytes_per_second=10)
    assert remaining_seconds(replace(RUNNING, progress=Progress("x", 1, transfer))) == 5
    assert remaining_seconds(replace(RUNNING, progress=Progress("x", 1, replace(transfer, total=None)))) is None


def test_polling_slows_down_with_age_and_stops_at_the_end() -> None:
    waits = [poll_after_seconds(RUNNING, NOW + later(seconds)) for seconds in (0, 30, 300, 3000, 9000)]
    assert waits == [1, 2, 5, 15, 30]
    assert poll_after_seconds(RUNNING.to(TaskStatus.FAILED, now=NOW, ended_at=NOW), NOW) is None
