"""A real, small pipeline whose requests say what it does, and the rooms joined as the server joins them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mediagen.core.errors import (
    DeadlineExceeded,
    FetchFailed,
    MediagenError,
    SourceTruncated,
    TaskCancelled,
    TooLarge,
    UploadLost,
)
from mediagen.core.events import Event
from mediagen.core.files import File
from mediagen.core.progress import Progress
from mediagen.core.tasks import Task
from mediagen.db.connection import Database
from mediagen.db.files import SqliteFiles
from mediagen.db.ledger import SqliteLedger
from mediagen.db.tasks import SqliteJournal
from mediagen.events.bus import MemoryBus
from mediagen.pipelines.base import Outcome, Run
from mediagen.streams.base import StoredPart
from mediagen.tasks.dispatcher import LaneDispatcher
from mediagen.tasks.registry import Registry
from mediagen.tasks.runner import TaskRunner
from mediagen.tasks.service import TaskService
from mediagen.tasks.settings import TasksSettings
from tests.contracts.journal import a_file

ERRORS: Mapping[str, Exception] = {
    error.code: error
    for error in (
        FetchFailed("no answer"),
        SourceTruncated("short"),
        TooLarge("large"),
        UploadLost("lost", error="x", event="y"),
        DeadlineExceeded("slow"),
        TaskCancelled("enough"),
    )
} | {
    "group": ExceptionGroup("several", [ExceptionGroup("inner", [FetchFailed("first")]), ValueError("second")]),
    "bug": ZeroDivisionError("a fault of ours"),
}


class Spec(BaseModel):
    """``wait``: until it is released; ``stubborn``: its clean-up waits for that too; ``die``: it cancels itself."""

    model_config = ConfigDict(extra="forbid")

    do: Literal["succeed", "fail", "wait", "stubborn", "die", "nonsense", "late"] = "succeed"
    error: str = "fetch_failed"
    checkpoint: dict[str, Any] | None = None
    parts: int = 0
    readings: list[int] = []
    files: int = 0
    note: str | None = None


@dataclass
class Seen:
    """A run as it began, and what it was told at its end."""

    task_id: str
    attempt: int
    resume: Mapping[str, Any]
    parts: list[StoredPart]
    owner: str | None
    stopping: bool | None = None


@dataclass
class Scripted:
    """Fits ``pipelines.base.Pipeline``."""

    kind: str = "scripted"
    lane: str = "ingest"
    spec: type[BaseModel] = Spec
    runs: list[Seen] = field(default_factory=list)
    abandoned: list[Mapping[str, Any]] = field(default_factory=list)
    discarded: list[Outcome] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    abandon_fails: bool = False
    abandon_waits: asyncio.Event | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self, spec: Spec, run: Run, /) -> Outcome:
        if spec.checkpoint is not None and not run.resume:
            await run.checkpoint(spec.checkpoint)
        seen = Seen(run.task_id, run.attempt, run.resume, await run.parts(), run.owner)
        for number in range(1, spec.parts + 1):
            await run.record_part(StoredPart(number, 5, number, f"t{number}"))
        for percent in spec.readings:
            run.report(Progress("working", percent))
        self.runs.append(seen)
        async with self.changed:
            self.changed.notify_all()
        try:
            await self._act(spec)
        except asyncio.CancelledError:
            if spec.do == "stubborn":
                await self.release.wait()
            if spec.do != "late":
                raise
        finally:
            seen.stopping = run.stopping
        if spec.do == "nonsense":
            return Outcome({"no json": object()}, (a_file(task_id=run.task_id),))
        files: tuple[File, ...] = tuple(a_file(task_id=run.task_id) for _ in range(spec.files))
        return Outcome({"files": [file.id for file in files], "note": spec.note}, files)

    async def _act(self, spec: Spec) -> None:
        if spec.do == "fail":
            raise ERRORS[spec.error]
        if spec.do == "die":
            raise asyncio.CancelledError
        if spec.do in {"wait", "stubborn", "late"}:
            await self.release.wait()

    async def abandon(self, checkpoint: Mapping[str, Any], /) -> None:
        if self.abandon_waits is not None:
            await self.abandon_waits.wait()
        if self.abandon_fails:
            raise MediagenError("the store is away")
        self.abandoned.append(checkpoint)
        async with self.changed:
            self.changed.notify_all()

    async def discard(self, outcome: Outcome, /) -> None:
        self.discarded.append(outcome)

    async def began(self, number: int = 1) -> Seen:
        """The run that is the ``number``-th to begin."""
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: len(self.runs) >= number)
        return self.runs[number - 1]

    async def gave_up(self, number: int = 1) -> Mapping[str, Any]:
        """The checkpoint that is the ``number``-th to be abandoned."""
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: len(self.abandoned) >= number)
        return self.abandoned[number - 1]


@dataclass
class World:
    """One start of the server, as far as tasks go."""

    database: Database
    pipeline: Scripted
    settings: TasksSettings
    told: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = SqliteJournal(self.database)
        self.ledger = SqliteLedger(self.database)
        self.files = SqliteFiles(self.database)
        self.bus = MemoryBus(self.database.boot)
        self.bus.listen(None, self.told.append)
        self.dispatcher = LaneDispatcher(self.settings.lanes)
        self.registry = Registry(self.journal, self.bus, self.dispatcher)
        self.runner = TaskRunner(
            self.registry, self.dispatcher, self.ledger, self.files, [self.pipeline], self.settings
        )
        self.service = TaskService(self.registry, self.runner, self.dispatcher, self.settings)

    async def row(self, task_id: str) -> Task:
        task = await self.journal.get(task_id)
        assert task is not None
        return task

    def statuses(self, task_id: str) -> list[str]:
        """What all who listen were told of a task, in order; readings as their percentage."""
        return [
            event.task.status.value
            if event.type != "task.progress"
            else str(event.task.progress.percent if event.task.progress else None)
            for event in self.told
            if event.task_id == task_id
        ]


@asynccontextmanager
async def world(
    folder: Path,
    pipeline: Scripted | None = None,
    *,
    settings: TasksSettings | None = None,
    started: bool = True,
    busy_seconds: float = 5,
) -> AsyncIterator[World]:
    """A start on the database in ``folder``; ``started`` False leaves the runner to the test."""
    async with Database(folder / "mediagen.db", busy_seconds=busy_seconds) as database:
        made = World(database, pipeline or Scripted(), settings or TasksSettings())
        if started:
            async with made.runner:
                yield made
        else:
            yield made
            await made.registry.aclose()
