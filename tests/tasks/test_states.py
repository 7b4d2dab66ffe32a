"""Whatever is done in whatever order, restarts and kills included: the table of states is kept, an end is an end."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from mediagen.core.errors import AttemptsExhausted, Conflict, InvalidRequest, NotFound
from mediagen.core.events import Event, EventType
from mediagen.core.tasks import NEXT, Task, TaskQuery, TaskStatus
from mediagen.tasks import service as service_module
from mediagen.tasks.settings import TasksSettings
from tests.tasks.scripted import Scripted, Spec, World, world

T = TypeVar("T")

REFUSALS = (AttemptsExhausted, Conflict, InvalidRequest, NotFound)


class Server(RuleBasedStateMachine):
    """One data directory, its server started again and again."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.Runner()
        self.last: dict[str, Task] = {}
        self.server, self.stack = self.run(self.start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(work)

    async def start(self) -> tuple[World, AsyncExitStack]:
        stack = AsyncExitStack()
        lanes = TasksSettings(lanes={"ingest": 2})
        server = await stack.enter_async_context(
            world(Path(self.folder.name), Scripted(), settings=lanes, started=False)
        )
        server.bus.listen(None, self.told)
        await server.runner.__aenter__()
        return server, stack

    def told(self, event: Event) -> None:
        """Every fact follows from the one before."""
        task, before = event.task, self.last.get(event.task_id)
        if event.type is not EventType.STATUS:
            assert before is not None
            return
        if before is not None and before.version != task.version:
            assert task.version == before.version + 1
            same = task.status is before.status and not before.ended
            assert same or task.status in NEXT[before.status]
            if before.ended:
                assert (task.status, task.attempt) == (TaskStatus.QUEUED, before.attempt + 1)
            else:
                assert task.attempt == before.attempt
        assert (task.ended_at is not None) == task.ended
        self.last[task.id] = task

    @rule(target=tasks, do=st.sampled_from(["succeed", "fail", "wait", "late"]), priority=st.integers(0, 100))
    def submit(self, do: str, priority: int) -> str:
        request = {"do": do, "files": 1, "checkpoint": {"u": 1}, "readings": [1, 2]}
        return self.run(self.server.service.submit("scripted", Spec(**request), priority=priority)).id

    @rule(task_id=tasks)
    def cancel(self, task_id: str) -> None:
        self.attempt(self.server.service.cancel(task_id))

    @rule(task_id=tasks, do=st.sampled_from([None, "succeed", "fail", "wait"]))
    def retry(self, task_id: str, do: str | None) -> None:
        self.attempt(self.server.service.retry(task_id, {"do": do} if do else None))

    @rule(task_id=tasks, priority=st.integers(-1, 101))
    def set_priority(self, task_id: str, priority: int) -> None:
        self.attempt(self.server.service.set_priority(task_id, priority))

    @rule(task_id=tasks)
    def delete(self, task_id: str) -> None:
        self.attempt(self.server.service.delete(task_id))

    @rule(task_id=tasks)
    def everything_at_once(self, task_id: str) -> None:
        async def clicks() -> None:
            service = self.server.service
            self.server.pipeline.release.set()
            calls = [service.cancel(task_id), service.retry(task_id), service.cancel(task_id), service.retry(task_id)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(answer, (Task, *REFUSALS)) for answer in answers)
            self.server.pipeline.release.clear()

        self.run(clicks())

    @rule()
    def let_go(self) -> None:
        async def go() -> None:
            self.server.pipeline.release.set()
            for _ in range(50):
                await asyncio.sleep(0)
            self.server.pipeline.release.clear()

        self.run(go())

    @rule(nicely=st.booleans())
    def restart(self, nicely: bool) -> None:
        self.run(self.stop(nicely))
        self.server, self.stack = self.run(self.start())

    async def stop(self, nicely: bool) -> None:
        if not nicely:  # what comes after this moment is not written, as after a kill
            await self.server.database.write(
                lambda connection: (
                    connection.execute(
                        "CREATE TRIGGER killed BEFORE UPDATE ON tasks BEGIN SELECT raise(IGNORE); END"
                    ).rowcount
                )
            )
        await self.server.runner.stop()
        if not nicely:
            await self.server.database.write(lambda connection: connection.execute("DROP TRIGGER killed").rowcount)
            self.last = {task.id: task for task in (await self.server.journal.query(TaskQuery(limit=10**6)))[0]}
        await self.stack.aclose()

    def attempt(self, call: Coroutine[Any, Any, Any]) -> None:
        try:
            self.run(call)
        except REFUSALS:
            return

    @invariant()
    def memory_and_rows_agree(self) -> None:
        async def compare() -> None:
            remembered = {task.id: task for task in self.server.registry.live()}
            rows, _ = await self.server.journal.query(TaskQuery(limit=10**6))
            for row in rows:
                if row.id in remembered:
                    assert remembered[row.id].version <= row.version  # memory is never ahead
                if row.ended:
                    assert await self.server.registry.ended(row.id) == row
                    assert len(await self.server.files.keys(row.id)) == (row.status is TaskStatus.COMPLETED)
            assert remembered.keys() <= {row.id for row in rows}

        self.run(compare())

    def teardown(self) -> None:
        self.run(self.stop(nicely=True))
        self.loop.close()
        self.folder.cleanup()


def test_the_states_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "REPEAT_SECONDS", 0)
    run_state_machine_as_test(
        Server,
        settings=settings(max_examples=15, stateful_step_count=25, suppress_health_check=list(HealthCheck)),
    )
