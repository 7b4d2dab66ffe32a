from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from mediagen.core.errors import Conflict, NotFound, Unavailable
from mediagen.core.progress import Progress
from mediagen.core.tasks import Task, TaskStatus
from tests.contracts.journal import NOW, a_task
from tests.tasks.scripted import World, world


async def started(server: World) -> Task:
    task = a_task()
    await server.registry.add(task)
    return await server.registry.move(task.id, TaskStatus.RUNNING, started_at=NOW)


async def test_one_of_many_ends_wins(tmp_path: Path) -> None:
    async with world(tmp_path, started=False) as server:
        task = await started(server)
        ends = [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMED_OUT] * 13

        answers = await asyncio.gather(*(server.registry.end(task, end) for end in ends), return_exceptions=True)

        (won,) = [answer for answer in answers if isinstance(answer, Task)]
        assert all(isinstance(answer, Task | Conflict) for answer in answers)
        assert await server.row(task.id) == won
        assert server.statuses(task.id) == ["queued", "running", won.status.value]


async def test_a_requested_cancel_allows_no_other_end(tmp_path: Path) -> None:
    async with world(tmp_path, started=False) as server:
        task = await started(server)
        await server.registry.edit(task.id, lambda _task: {"cancel_requested": True})

        with pytest.raises(Conflict):
            await server.registry.end(task, TaskStatus.COMPLETED)
        assert (await server.registry.end(task, TaskStatus.CANCELLED)).status is TaskStatus.CANCELLED


async def test_memory_never_runs_ahead_of_the_row(tmp_path: Path) -> None:
    async with world(tmp_path, started=False, busy_seconds=0.02) as server:
        task = await started(server)
        other = sqlite3.connect(server.database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        for change in (
            server.registry.end(task, TaskStatus.COMPLETED),
            server.registry.edit(task.id, lambda _task: {"priority": 1}),
            server.registry.add(replace(a_task(), id="task_new")),
        ):
            with pytest.raises(Unavailable):
                await change

        assert await server.registry.get(task.id) == task
        with pytest.raises(NotFound):
            await server.registry.get("task_new")
        assert server.statuses(task.id) == ["queued", "running"]
        assert server.dispatcher.position("task_new") is None
        other.execute("ROLLBACK")
        other.close()
        assert (await server.registry.end(task, TaskStatus.COMPLETED)).status is TaskStatus.COMPLETED


async def test_a_row_that_somebody_else_changed_wins(tmp_path: Path) -> None:
    async with world(tmp_path, started=False) as server:
        task = await started(server)
        elsewhere = task.to(TaskStatus.FAILED, now=NOW, ended_at=NOW)
        assert await server.journal.save(elsewhere, was=task)

        with pytest.raises(Conflict):
            await server.registry.end(task, TaskStatus.COMPLETED)

        assert await server.registry.get(task.id) == elsewhere


async def test_a_change_whose_caller_goes_is_carried_out_whole(tmp_path: Path) -> None:
    async with world(tmp_path, started=False) as server:
        task = await started(server)
        ending = asyncio.get_running_loop().create_task(server.registry.end(task, TaskStatus.COMPLETED))
        await asyncio.sleep(0)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending

        ended = await server.registry.ended(task.id)

        assert ended.status is TaskStatus.COMPLETED
        assert await server.row(task.id) == ended


async def test_readings_are_conflated_and_the_last_goes_out_before_the_end(tmp_path: Path) -> None:
    async with world(tmp_path, started=False) as server:
        task = await started(server)
        for percent in range(90):
            server.registry.report(task.id, 1, Progress("working", percent))
        await asyncio.sleep(0.15)
        server.registry.report(task.id, 1, Progress("working", 95))
        await server.registry.end(task, TaskStatus.COMPLETED)
        server.registry.report(task.id, 1, Progress("working", 99))

        assert server.statuses(task.id) == ["queued", "running", "0", "89", "95", "completed"]


async def test_readings_never_fall_and_those_of_other_attempts_are_ignored(tmp_path: Path) -> None:
    async with world(tmp_path, started=False) as server:
        task = await started(server)
        for attempt, percent in ((1, 50), (1, 20), (2, 80), (1, None)):
            server.registry.report(task.id, attempt, Progress("working", percent))
            now = await server.registry.get(task.id)
            assert now.progress == Progress("working", None if percent is None else 50)
        server.registry.report("task_unknown", 1, Progress("working", 1))


async def test_readings_and_checkpoints_survive_an_edit(tmp_path: Path) -> None:
    async with world(tmp_path, started=False) as server:
        task = await started(server)
        server.registry.report(task.id, 1, Progress("working", 50))
        await server.ledger.checkpoint(task.id, 1, {"u": 1})
        server.registry.checkpointed(task.id, 1, {"u": 1})

        edited = await server.registry.edit(task.id, lambda _task: {"priority": 1})
        queued = await server.registry.move(task.id, TaskStatus.QUEUED)

        assert (edited.progress, edited.checkpoint) == (Progress("working", 50), {"u": 1})
        assert (queued.progress, queued.checkpoint) == (None, {"u": 1})
        assert (await server.row(task.id)).checkpoint == {"u": 1}


async def test_many_wait_for_one_end(tmp_path: Path) -> None:
    async with world(tmp_path, started=False) as server:
        task = await started(server)
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(server.registry.ended(task.id)) for _ in range(10)]
            gone = group.create_task(server.registry.ended(task.id))
            await asyncio.sleep(0)
            gone.cancel()
            ended = await server.registry.end(task, TaskStatus.FAILED)

        assert {id(await waiter) for waiter in waiting} == {id(ended)}
        assert await server.registry.ended(task.id) == ended
        with pytest.raises(NotFound):
            await server.registry.ended("task_unknown")
