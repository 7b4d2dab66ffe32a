"""One attempt of one task, as its pipeline sees it."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any

from mediagen.core.progress import Progress
from mediagen.core.tasks import Task
from mediagen.pipelines.base import Ledger
from mediagen.streams.base import StoredPart
from mediagen.tasks.debts import Debts
from mediagen.tasks.registry import Registry


class AttemptRun:
    """Fits ``pipelines.base.Run``; what it saves is ignored once the attempt is over."""

    def __init__(self, task: Task, registry: Registry, ledger: Ledger, debts: Debts) -> None:
        self._task = task
        self._debts = debts
        self._registry = registry
        self._ledger = ledger
        self.checkpoint_now: Mapping[str, Any] = task.checkpoint
        """The last checkpoint that was saved."""
        self.stopping = False
        self._ends = monotonic() + task.timeout_seconds

    @property
    def task_id(self) -> str:
        return self._task.id

    @property
    def attempt(self) -> int:
        return self._task.attempt

    @property
    def owner(self) -> str | None:
        return self._task.owner

    @property
    def seconds_left(self) -> float:
        return self._ends - monotonic()

    @property
    def resume(self) -> Mapping[str, Any]:
        return self._task.checkpoint

    def report(self, progress: Progress, /) -> None:
        self._registry.report(self.task_id, self.attempt, progress)

    async def checkpoint(self, checkpoint: Mapping[str, Any], /) -> None:
        await self._debts.look_later(self._task, self.checkpoint_now, instead=checkpoint)
        self.checkpoint_now = dict(checkpoint)  # before the row: what may be in it must be cleaned up
        await self._ledger.checkpoint(self.task_id, self.attempt, checkpoint)
        self._registry.checkpointed(self.task_id, self.attempt, checkpoint)

    async def record_part(self, part: StoredPart, /) -> None:
        await self._ledger.record_part(self.task_id, self.attempt, part)

    async def parts(self) -> list[StoredPart]:
        return await self._ledger.parts(self.task_id, self.attempt)
