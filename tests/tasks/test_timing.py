from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mediagen.core.progress import Progress, Transfer
from mediagen.core.tasks import TaskStatus
from mediagen.db.connection import Database
from mediagen.db.tasks import SqliteJournal
from mediagen.events.bus import MemoryBus
from mediagen.tasks.dispatcher import LaneDispatcher
from mediagen.tasks.registry import Registry
from mediagen.tasks.timing import elapsed_seconds, poll_after_seconds, remaining_seconds
from tests.contracts.journal import NOW, a_task
from tests.core.clocks import Times

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


@pytest.mark.parametrize("step", [-3 * 86_400.0, 3 * 86_400.0])
async def test_elapsed_time_is_that_of_the_steady_clock(tmp_path: Path, step: float) -> None:
    times = Times()
    clock = times.clock()
    async with Database(tmp_path / "mediagen.db") as database:
        journal = SqliteJournal(database)
        registry = Registry(journal, MemoryBus(1), LaneDispatcher({}), now=clock.now)
        clock.on_step(registry.clock_stepped)
        task = await registry.add(a_task(status=TaskStatus.RUNNING, started_at=clock.now()))
        times.pass_by(seconds=30)

        times.set(seconds=step)
        times.pass_by(seconds=10)

        now = clock.now()
        assert elapsed_seconds(await registry.get(task.id), now) == 40
        await registry.edit(task.id, lambda _: {"priority": 60})
        times.set(seconds=-step)
        times.pass_by(seconds=5)
        ended = await registry.end(task, TaskStatus.COMPLETED, result={})
        assert elapsed_seconds(ended, now) == 45
        row = await journal.get(task.id)
        assert row is not None
        assert elapsed_seconds(row, now) == pytest.approx(45)
        await registry.aclose()
