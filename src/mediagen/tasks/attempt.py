"""One attempt of one task, as its pipeline sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Final, TypeVar

import structlog

from mediagen.core.errors import Unavailable
from mediagen.core.progress import Progress
from mediagen.core.tasks import Task
from mediagen.pipelines.base import Ledger
from mediagen.streams.base import StoredPart
from mediagen.tasks.deferred_cleanup import Debts
from mediagen.tasks.registry import Registry

log = structlog.get_logger(__name__)

T = TypeVar("T")

DATABASE_RETRY_SECONDS: Final = 1.0


async def until_done(call: Callable[[], Awaitable[T]]) -> T:
    """What ``call`` gives, repeated while the database cannot be used; the caller's cancellation is the only limit.

    Another process may hold the database, or its disk be full, for longer than a single write waits. What an attempt
    has paid for must not be lost to that.
    """
    failures = 0
    while True:
        try:
            return await call()
        except Unavailable as exc:
            failures += 1
            (log.warning if failures == 1 else log.debug)("task_not_saved", error=exc.detail, failures=failures)
            await asyncio.sleep(DATABASE_RETRY_SECONDS)


class AttemptRun:
    """Fits ``pipelines.base.Run``; what it saves is ignored once the attempt is over.

    Its calls wait until the database can be used. The time limit of the attempt ends the wait, as it ends all else.
    """

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
        await until_done(lambda: self._debts.look_later(self._task, self.checkpoint_now, instead=checkpoint))
        self.checkpoint_now = dict(checkpoint)  # before the row: what may be in it must be cleaned up
        await until_done(lambda: self._ledger.checkpoint(self.task_id, self.attempt, checkpoint))
        self._registry.checkpointed(self.task_id, self.attempt, checkpoint)

    async def record_part(self, part: StoredPart, /) -> None:
        await until_done(lambda: self._ledger.record_part(self.task_id, self.attempt, part))

    async def parts(self) -> list[StoredPart]:
        return await until_done(lambda: self._ledger.parts(self.task_id, self.attempt))
