"""The verbs: what the edge may do with tasks.

``owner`` is the caller: tasks of somebody else are unknown to it. None means that there are no owners (no keys).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from time import monotonic
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel

from mediagen.core.clock import utc_now
from mediagen.core.errors import AttemptsExhausted, Conflict, InvalidRequest, NotFound, QueueFull
from mediagen.core.files import File, new_id
from mediagen.core.tasks import RETRYABLE, Task, TaskQuery, TaskStatus
from mediagen.core.webhooks import Webhook
from mediagen.pipelines.base import Pipeline
from mediagen.tasks.deletions import check_ended
from mediagen.tasks.ports import Dispatcher
from mediagen.tasks.registry import Registry
from mediagen.tasks.requests import (
    asked_of_webhook,
    check_priority,
    fingerprint_of,
    merge_patch,
    scoped,
    stored_form,
    validated,
)
from mediagen.tasks.runner import TaskRunner
from mediagen.tasks.settings import TasksSettings

CANCEL_WAIT_SECONDS: Final = 1.2
"""How long a cancel waits to answer with the ended task."""
REPEAT_SECONDS: Final = 0.3
"""Retries of one task so soon after another are the same click."""


Verb: TypeAlias = Literal["cancel", "retry"]

_WORKS_FOR: Final[Mapping[Verb, Collection[TaskStatus]]] = {
    "cancel": (TaskStatus.QUEUED, TaskStatus.RUNNING),
    "retry": RETRYABLE,
}
_PAGE: Final = 250


class TaskService:
    """Submit, look, cancel, retry. Every change is durable when the call returns."""

    def __init__(self, registry: Registry, runner: TaskRunner, dispatcher: Dispatcher, settings: TasksSettings) -> None:
        self._registry = registry
        self._runner = runner
        self._dispatcher = dispatcher
        self._settings = settings
        self._admitting = 0
        self._retried: dict[str, float] = {}

    async def submit(
        self,
        kind: str,
        spec: BaseModel,
        *,
        priority: int = 50,
        timeout_seconds: float | None = None,
        owner: str | None = None,
        key: str | None = None,
        webhook: Webhook | None = None,
        task_id: str | None = None,
        files: Sequence[File] = (),
        same: Mapping[str, Any] | None = None,
    ) -> Task:
        """A new task, queued; or, when the caller gave the same ``key`` (Idempotency-Key) before, the task of then.

        ``spec`` is a valid instance of the model of its kind (``Pipeline.spec``): it is validated again when the task
        runs, and not here.

        ``files`` become rows together with the task; they name it by ``task_id`` (``core.files.new_id("task")``). When
        the task of then is given its id is another one, they are no rows, and the caller removes their bytes. ``same``
        is what the request is compared by in that case, when it is not the request itself.

        Raises:
            InvalidRequest: the kind is unknown, or the priority, the time limit or the key is not valid.
            IdempotencyMismatch: the key came with another request.
            QueueFull: too many wait; ``retry_after`` seconds.
            Unavailable: the database does not write.
        """
        pipeline = self._pipeline(kind)
        check_priority(priority)
        longest = self._settings.timeout_seconds
        if timeout_seconds is not None and not 0 < timeout_seconds <= longest:
            raise InvalidRequest(f"timeout_seconds must be above 0 and at most {longest:g}", field="timeout_seconds")
        now = utc_now()
        task = Task(
            id=task_id or new_id("task"),
            kind=kind,
            lane=pipeline.lane,
            status=TaskStatus.QUEUED,
            request=stored_form(spec),
            created_at=now,
            updated_at=now,
            priority=priority,
            max_attempts=self._settings.max_attempts,
            timeout_seconds=timeout_seconds or longest,
            owner=owner,
            webhook=webhook,
        )
        asked = {
            "request": task.request if same is None else same,
            "priority": priority,
            "timeout_seconds": timeout_seconds,
        }
        asked |= asked_of_webhook(webhook)
        scope, fingerprint = scoped(key, kind, owner), fingerprint_of(asked)
        if scope is not None and self._waiting >= self._settings.max_queued:
            earlier = await self._registry.made(scope, fingerprint)
            if earlier is not None:  # a repeat needs no room
                return earlier
        self._admit()
        self._admitting += 1
        try:
            return await self._registry.add(task, files, key=scope, fingerprint=fingerprint)
        finally:
            self._admitting -= 1

    async def submit_done(
        self,
        kind: str,
        request: Mapping[str, Any],
        *,
        result: Mapping[str, Any],
        files: Sequence[File],
        task_id: str | None = None,
        owner: str | None = None,
        key: str | None = None,
        fingerprint: str = "",
        webhook: Webhook | None = None,
    ) -> Task:
        """Record work that was carried out inside its request: the completed task and its files in one transaction.

        ``task_id`` (``core.files.new_id("task")``) is given when the files already name it. When the caller gave the
        same ``key`` before, with the same ``fingerprint`` (a digest of what was sent), nothing is recorded and the
        task of then is given: its id is another one, and the caller removes what it stored this time.
        """
        now = utc_now()
        started = min((file.created_at for file in files), default=now)
        task = Task(
            id=task_id or new_id("task"),
            kind=kind,
            lane=self._pipeline(kind).lane,
            status=TaskStatus.COMPLETED,
            request=dict(request),
            created_at=started,
            updated_at=now,
            started_at=started,
            ended_at=now,
            max_attempts=self._settings.max_attempts,
            timeout_seconds=self._settings.timeout_seconds,
            result=dict(result),
            owner=owner,
            webhook=webhook,
        )
        return await self._registry.add(task, files, key=scoped(key, kind, owner), fingerprint=fingerprint)

    async def get(self, task_id: str, *, owner: str | None = None) -> Task:
        """The task now. Raises NotFound, also for another owner's."""
        task = await self._registry.get(task_id)
        if owner is not None and task.owner != owner:
            raise NotFound(f"no task {task_id}", task_id=task_id)
        return task

    async def query(self, query: TaskQuery) -> tuple[list[Task], bool]:
        """A page of tasks, and whether there are more."""
        return await self._registry.query(query)

    def position(self, task: Task) -> int | None:
        """How many wait before it in its lane; None when it does not wait."""
        return self._dispatcher.position(task.id) if task.status is TaskStatus.QUEUED else None

    async def wait(self, task_id: str, *, owner: str | None = None) -> Task:
        """The task once it has ended."""
        await self.get(task_id, owner=owner)
        return await self._registry.ended(task_id)

    async def cancel(self, task_id: str, *, owner: str | None = None) -> Task:
        """The cancelled task, or one whose end follows within moments; again gives the same.

        Raises:
            NotFound: unknown id.
            Conflict: it ended otherwise.
        """
        task = await self._runner.cancel(await self.get(task_id, owner=owner))
        if task.ended:
            return task
        try:
            async with asyncio.timeout(CANCEL_WAIT_SECONDS):
                return await self._registry.ended(task_id)
        except TimeoutError:
            return await self._registry.get(task_id)

    async def retry(self, task_id: str, edits: Mapping[str, Any] | None = None, *, owner: str | None = None) -> Task:
        """The task with a new attempt, queued. Repeats that come at the same moment get the one new attempt.

        ``edits`` are merged into the request as RFC 7396 says: given fields replace, null removes.

        Raises:
            NotFound: unknown id.
            Conflict: it is not failed, cancelled or timed out.
            AttemptsExhausted: it had all its attempts.
            InvalidRequest, QueueFull: as for ``submit``.
        """
        seen = await self.get(task_id, owner=owner)
        repeated = monotonic() - self._retried.get(task_id, -REPEAT_SECONDS) < REPEAT_SECONDS
        pipeline = self._pipeline(seen.kind)
        now = utc_now()
        admitted = 0

        def next_of(was: Task) -> Task:
            nonlocal admitted
            if was.attempt > seen.attempt or repeated:
                return was  # somebody asked a moment before: the same reply
            if was.status not in RETRYABLE:
                raise Conflict(f"the task is {was.status}; only a failed, cancelled or timed out task can be retried")
            if was.attempt >= was.max_attempts:
                raise AttemptsExhausted(f"all {was.max_attempts} attempts have been used", task_id=task_id)
            request = merge_patch(was.request, edits) if edits else was.request
            validated(pipeline, request)
            self._admit()
            self._admitting += 1
            admitted += 1
            self._note_retry(task_id)
            return was.to(
                TaskStatus.QUEUED,
                now=now,
                request=request,
                attempt=was.attempt + 1,
                claims=0,
                started_at=None,
                ended_at=None,
                cancel_requested=False,
                result=None,
                error=None,
                checkpoint=was.checkpoint if request == was.request else {},
            )

        try:
            return await self._registry.change(task_id, next_of)
        finally:
            self._admitting -= admitted

    async def candidates(
        self, verb: Verb, status: TaskStatus, *, after: str | None, limit: int, owner: str | None = None
    ) -> tuple[list[str], bool]:
        """Ids of the oldest ``limit`` tasks of a status, after ``after``, for which ``verb`` can work; are there more?

        Raises:
            InvalidRequest: there is no task ``after``.
        """
        if status not in _WORKS_FOR[verb]:
            return [], False
        ids: list[str] = []
        more = True
        while more and len(ids) < limit:
            query = TaskQuery(
                status=status,
                limit=min(_PAGE, limit - len(ids)),
                after=ids[-1] if ids else after,
                descending=False,
                owner=owner,
                attempts_left=verb == "retry",
            )
            tasks, more = await self._registry.query(query)
            ids += [task.id for task in tasks]
        return ids, more

    async def set_priority(self, task_id: str, priority: int, *, owner: str | None = None) -> Task:
        """The task with another priority (0-100, higher first). Raises NotFound, InvalidRequest, Conflict (ended)."""
        check_priority(priority)
        await self.get(task_id, owner=owner)

        def edited(task: Task) -> Mapping[str, Any]:
            if task.ended:
                raise Conflict(f"the task is {task.status} already", task_id=task_id)
            return {} if task.priority == priority else {"priority": priority}

        return await self._registry.edit(task_id, edited)

    async def delete(self, task_id: str, *, owner: str | None = None) -> None:
        """Remove an ended task; its files stay. Raises NotFound, Conflict (it has not ended)."""
        await self.get(task_id, owner=owner)

        await self._registry.delete(task_id, check_ended)

    def _pipeline(self, kind: str) -> Pipeline:
        pipeline = self._runner.pipelines.get(kind)
        if pipeline is None:
            raise InvalidRequest(f"unknown kind of task: {kind}", field="kind")
        return pipeline

    @property
    def _waiting(self) -> int:
        return self._dispatcher.waiting + self._admitting

    def _admit(self) -> None:
        waiting = self._waiting
        if waiting >= self._settings.max_queued:
            raise QueueFull(f"{waiting} tasks are waiting already", retry_after=min(60, 5 + waiting // 50))

    def _note_retry(self, task_id: str) -> None:
        now = monotonic()
        self._retried.pop(task_id, None)
        self._retried[task_id] = now
        while now - next(iter(self._retried.values())) > REPEAT_SECONDS:
            del self._retried[next(iter(self._retried))]
