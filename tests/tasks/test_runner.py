from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.clock import Clock
from mediagen.core.errors import Conflict
from mediagen.core.files import FileQuery
from mediagen.core.tasks import Task, TaskStatus
from mediagen.maintenance.purge import HistoryPurge
from mediagen.streams.base import StoredPart
from mediagen.tasks.attempt import AttemptRun
from mediagen.tasks.settings import TasksSettings
from tests.contracts.journal import NOW, a_task
from tests.core.clocks import Times
from tests.tasks.scripted import Spec, World, world


async def run(server: World, **request: Any) -> Task:
    """A task carried out to its end."""
    task = await server.service.submit("scripted", Spec(**request))
    async with asyncio.timeout(10):
        return await server.service.wait(task.id)


async def test_a_task_is_told_and_kept_from_queued_to_completed(server: World) -> None:
    task = await run(server, files=2, readings=[10, 20, 70], note="done")

    assert task.status is TaskStatus.COMPLETED
    assert task.result is not None
    assert task.result["note"] == "done"
    assert task.started_at is not None
    assert task.ended_at is not None
    assert await server.row(task.id) == task
    files, _ = await server.files.query(FileQuery())
    assert {file.id for file in files} == set(task.result["files"])
    assert {file.task_id for file in files} == {task.id}
    assert server.statuses(task.id) == ["queued", "running", "10", "70", "completed"]
    seqs = [event.seq for event in server.told]
    assert seqs == sorted(set(seqs))


@pytest.mark.parametrize(
    ("error", "status", "code", "retryable"),
    [
        ("fetch_failed", TaskStatus.FAILED, "fetch_failed", True),
        ("source_truncated", TaskStatus.FAILED, "source_truncated", True),
        ("too_large", TaskStatus.FAILED, "too_large", False),
        ("storage_unavailable", TaskStatus.FAILED, "storage_unavailable", True),
        ("timeout", TaskStatus.TIMED_OUT, "timeout", True),
        ("cancelled", TaskStatus.CANCELLED, "cancelled", True),
        ("group", TaskStatus.FAILED, "fetch_failed", True),
        ("bug", TaskStatus.FAILED, "internal", True),
    ],
)
async def test_what_a_pipeline_raises_becomes_a_state(
    server: World, error: str, status: TaskStatus, code: str, retryable: bool
) -> None:
    task = await run(server, do="fail", error=error, checkpoint={"upload": "u"})

    assert task.status is status
    assert task.error is not None
    assert (task.error.code, task.error.retryable, task.error.attempt) == (code, retryable, 1)
    assert "ours" not in task.error.message  # what a bug says is for the log
    assert server.pipeline.abandoned == [{"upload": "u"}]
    assert (await server.row(task.id)).checkpoint == {}


async def test_a_bug_of_a_pipeline_is_logged_with_its_trace(server: World, logs: list[Any]) -> None:
    await run(server, do="fail", error="bug")

    (entry,) = [entry for entry in logs if entry["event"] == "attempt_crashed"]
    assert isinstance(entry["exc_info"], ZeroDivisionError)


async def test_a_pipeline_that_cancels_itself_has_failed(server: World) -> None:
    task = await run(server, do="die")

    assert task.status is TaskStatus.FAILED
    assert server.runner.healthy


async def test_an_outcome_that_is_no_row_fails_and_is_discarded(server: World) -> None:
    task = await run(server, do="nonsense")

    assert task.status is TaskStatus.FAILED
    assert task.error is not None
    assert task.error.code == "internal"
    assert len(server.pipeline.discarded) == 1
    assert await server.files.query(FileQuery()) == ([], False)
    assert (await run(server)).status is TaskStatus.COMPLETED  # nothing else is hurt


async def test_an_end_that_was_written_although_the_disk_said_no_keeps_what_it_made(server: World) -> None:
    task = await server.service.submit("scripted", Spec(do="wait"))
    await server.pipeline.began()
    running = await server.row(task.id)
    completed = running.to(TaskStatus.COMPLETED, now=running.updated_at, ended_at=running.updated_at)
    assert await server.journal.save(completed, was=running)

    server.pipeline.release.set()
    ended = await server.service.wait(task.id)
    await server.runner.drain(5)

    assert ended.status is TaskStatus.COMPLETED
    assert server.pipeline.discarded == []


async def test_a_task_that_takes_too_long_is_timed_out_and_clean(server: World) -> None:
    task = await server.service.submit("scripted", Spec(do="wait", checkpoint={"u": 1}), timeout_seconds=0.05)

    ended = await server.service.wait(task.id)

    assert ended.status is TaskStatus.TIMED_OUT
    assert ended.error is not None
    assert ended.error.code == "timeout"
    assert server.pipeline.abandoned == [{"u": 1}]
    assert server.pipeline.runs[0].stopping is False


async def test_a_running_task_is_cancelled_at_once_and_clean(server: World) -> None:
    task = await server.service.submit("scripted", Spec(do="wait", checkpoint={"u": 1}, parts=3))
    await server.pipeline.began()
    start = time.monotonic()

    ended = await server.service.cancel(task.id)

    assert time.monotonic() - start < 0.5
    assert ended.status is TaskStatus.CANCELLED
    assert ended.error is not None
    assert ended.error.code == "cancelled"
    assert server.pipeline.abandoned == [{"u": 1}]
    assert await server.ledger.parts(task.id, 1) == []
    assert await server.service.cancel(task.id) == ended
    assert server.statuses(task.id) == ["queued", "running", "running", "cancelled"]


async def test_a_pipeline_that_does_not_let_go_delays_a_cancel_by_less_than_a_second(
    server: World, logs: list[Any]
) -> None:
    task = await server.service.submit("scripted", Spec(do="stubborn", checkpoint={"u": 1}))
    await server.pipeline.began()
    start = time.monotonic()

    ended = await server.service.cancel(task.id)

    assert time.monotonic() - start < 1
    assert ended.status is TaskStatus.CANCELLED
    assert "clean_up_lingers" in [entry["event"] for entry in logs]
    server.pipeline.release.set()  # it ends by itself; the fixture sees that nothing is left


async def test_what_cannot_be_removed_now_is_owed_and_removed_later(server: World) -> None:
    server.pipeline.abandon_waits = asyncio.Event()
    server.pipeline.abandon_fails = True
    task = await server.service.submit("scripted", Spec(do="wait", checkpoint={"u": 1}))
    await server.pipeline.began()

    assert (await server.service.cancel(task.id)).status is TaskStatus.CANCELLED

    ((_, owed),) = await server.ledger.owed_aborts(10)
    assert owed["checkpoint"] == {"u": 1}
    server.pipeline.abandon_waits.set()
    assert await server.runner.debts.settle() == 1  # the store is away: it stays owed
    server.pipeline.abandon_fails = False
    assert await server.runner.debts.settle() == 0
    assert {"u": 1} in server.pipeline.abandoned
    assert await server.ledger.owed_aborts(10) == []


async def test_an_outcome_that_comes_after_a_cancel_is_discarded(server: World) -> None:
    task = await server.service.submit("scripted", Spec(do="late", files=1))
    await server.pipeline.began()

    ended = await server.service.cancel(task.id)  # "late" answers a cancel with an outcome

    assert ended.status is TaskStatus.CANCELLED
    assert len(server.pipeline.discarded) == 1
    assert await server.files.query(FileQuery()) == ([], False)


async def test_of_cancel_and_finish_at_once_one_wins_and_the_other_is_told(server: World) -> None:
    tasks = [await server.service.submit("scripted", Spec(do="wait", files=1)) for _ in range(4)]
    await server.pipeline.began(4)

    async def cancel(task_id: str) -> str:
        try:
            return (await server.service.cancel(task_id)).status.value
        except Conflict:
            return "conflict"

    async with asyncio.TaskGroup() as group:
        clicks = [[group.create_task(cancel(task.id)) for _ in range(50)] for task in tasks]
        await asyncio.sleep(0)
        server.pipeline.release.set()

    completed = 0
    for task, answers in zip(tasks, clicks, strict=True):
        ended = await server.service.wait(task.id)
        told = {await answer for answer in answers}
        assert told == ({"conflict"} if ended.status is TaskStatus.COMPLETED else {"cancelled"})
        assert server.statuses(task.id).count(ended.status.value) == 1
        completed += ended.status is TaskStatus.COMPLETED
    files, _ = await server.files.query(FileQuery())
    assert len(files) == completed


async def test_shutdown_puts_what_runs_back_and_the_next_start_goes_on(tmp_path: Path) -> None:
    request = {"do": "wait", "checkpoint": {"upload": "u"}, "parts": 2}
    async with world(tmp_path) as first:
        task = await first.service.submit("scripted", Spec(**request), priority=70, owner="anna")
        waiting = [await first.service.submit("scripted", Spec(do="wait")) for _ in range(4)]
        await first.pipeline.began(4)
    assert {seen.stopping for seen in first.pipeline.runs} == {True}
    assert first.pipeline.abandoned == []
    assert first.statuses(task.id) == ["queued", "running", "queued"]

    async with world(tmp_path) as second:
        second.pipeline.release.set()
        ended = await second.service.wait(task.id)
        for one in waiting:
            assert (await second.service.wait(one.id)).status is TaskStatus.COMPLETED

    assert (ended.status, ended.attempt, ended.claims, ended.priority) == (TaskStatus.COMPLETED, 1, 0, 70)
    (seen,) = [seen for seen in second.pipeline.runs if seen.task_id == task.id]
    assert (seen.resume, len(seen.parts), seen.owner) == ({"upload": "u"}, 2, "anna")


async def test_an_outcome_that_comes_during_shutdown_is_kept(tmp_path: Path) -> None:
    async with world(tmp_path) as server:
        task = await server.service.submit("scripted", Spec(do="late", files=1))
        await server.pipeline.began()

    async with world(tmp_path, started=False) as after:
        assert (await after.row(task.id)).status is TaskStatus.COMPLETED


async def test_draining_lets_what_runs_end_and_begins_nothing(tmp_path: Path) -> None:
    settings = TasksSettings(lanes={"ingest": 1})
    async with world(tmp_path, settings=settings) as server:
        running = await server.service.submit("scripted", Spec(do="wait"))
        waiting = await server.service.submit("scripted", Spec(do="wait"))
        await server.pipeline.began()

        async with asyncio.TaskGroup() as group:
            group.create_task(server.runner.drain(5))
            await asyncio.sleep(0)
            server.pipeline.release.set()

        assert not server.runner.healthy
        assert (await server.row(running.id)).status is TaskStatus.COMPLETED
        assert (await server.row(waiting.id)).status is TaskStatus.QUEUED
        assert len(server.pipeline.runs) == 1


async def test_a_drain_that_takes_too_long_ends(server: World) -> None:
    await server.service.submit("scripted", Spec(do="wait"))
    await server.pipeline.began()

    await server.runner.drain(0.02)

    assert server.runner.running == 1


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Somebody else holds the database for writing."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


async def test_an_end_that_cannot_be_written_is_written_as_soon_as_it_can(tmp_path: Path, logs: list[Any]) -> None:
    async with world(tmp_path, busy_seconds=0.05) as server:
        task = await server.service.submit("scripted", Spec(do="wait", files=1))
        await server.pipeline.began()
        with held(server.database.path):
            server.pipeline.release.set()
            async with asyncio.timeout(5):
                while "task_not_saved" not in [entry["event"] for entry in logs]:
                    await asyncio.sleep(0.01)
            assert (await server.service.get(task.id)).status is TaskStatus.RUNNING  # memory is not ahead of the row

        assert (await server.service.wait(task.id)).status is TaskStatus.COMPLETED


async def test_what_an_attempt_saves_waits_for_the_database(tmp_path: Path, logs: list[Any]) -> None:
    async with world(tmp_path, busy_seconds=0.05) as server:
        task = await server.service.submit("scripted", Spec(do="wait"))
        await server.pipeline.began()
        run = AttemptRun(await server.service.get(task.id), server.registry, server.ledger, server.runner.debts)
        async with asyncio.TaskGroup() as group:
            with held(server.database.path):
                group.create_task(run.checkpoint({"upload": "u"}))
                group.create_task(run.record_part(StoredPart(1, 5, 6, "t")))
                async with asyncio.timeout(5):
                    while len([entry for entry in logs if entry["event"] == "task_not_saved"]) < 2:
                        await asyncio.sleep(0.01)

        assert (await server.row(task.id)).checkpoint == {"upload": "u"}
        assert await run.parts() == [StoredPart(1, 5, 6, "t")]


async def test_waiting_for_the_database_ends_with_the_attempt(tmp_path: Path) -> None:
    async with world(tmp_path, busy_seconds=0.05) as server:
        blocker = await server.service.submit("scripted", Spec(do="wait"), priority=100)
        await server.pipeline.began()
        run = AttemptRun(await server.service.get(blocker.id), server.registry, server.ledger, server.runner.debts)
        with held(server.database.path), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await run.checkpoint({"upload": "u"})


async def test_old_history_is_purged_and_the_rest_kept(tmp_path: Path) -> None:
    async with world(tmp_path) as server:
        old, new = await run(server), await run(server)
        await server.database.write(
            lambda connection: (
                connection.execute(
                    "UPDATE tasks SET ended_at = '2020-01-01T00:00:00.000000+00:00' WHERE id = ?", (old.id,)
                ).rowcount
            )
        )

    async with world(tmp_path) as later:
        assert await HistoryPurge(later.registry, Clock(), days=1).purge() == 1
        assert await later.journal.get(old.id) is None
        assert (await later.row(new.id)).id == new.id


@pytest.mark.parametrize("days", [400, -400])
async def test_a_clock_in_doubt_purges_nothing(tmp_path: Path, logs: list[Any], days: int) -> None:
    times = Times()
    clock = times.clock(known=times.wall - timedelta(days=days))
    async with world(tmp_path, started=False) as server:
        old = await server.journal.insert(a_task(kind="scripted", status=TaskStatus.FAILED, ended_at=NOW))
        history = HistoryPurge(server.registry, clock, days=1)
        purging = asyncio.get_running_loop().create_task(history.run())
        async with asyncio.timeout(5):
            while "purge_waits_for_the_clock" not in [entry["event"] for entry in logs]:
                await asyncio.sleep(0.01)
        purging.cancel()
        assert await server.journal.get(old) is not None

        clock.confirm()
        purging = asyncio.get_running_loop().create_task(history.run())
        async with asyncio.timeout(5):
            while await server.journal.get(old) is not None:
                await asyncio.sleep(0.01)
        purging.cancel()
