"""The only place where a task's state changes.

A change is made under the task's own lock: the present value is read, the next one computed (which may raise
Conflict), the row written by compare-and-set, and only then the copy in memory replaced and the event published. So
memory never runs ahead of the row, whatever fails, and of two that want to end a task one gets Conflict. The
dispatcher follows: what becomes queued waits in its lane. A change that has begun is carried out whole even when its
caller is cancelled.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import structlog

from mediagen.core.clock import utc_now
from mediagen.core.errors import Conflict, NotFound
from mediagen.core.events import Event, EventType
from mediagen.core.files import File
from mediagen.core.progress import Progress
from mediagen.core.tasks import Task, TaskQuery, TaskStatus
from mediagen.core.text import refuse_invalid, repaired
from mediagen.events.throttle import Throttle
from mediagen.tasks.ports import Dispatcher, EventBus, Journal

log = structlog.get_logger(__name__)

READINGS_PER_SECOND: Final = 10
KEEP_ENDED: Final = 1024
KEEP_ENDED_SECONDS: Final = 60.0

T = TypeVar("T")


class Registry:
    """Live tasks in memory, all tasks through the journal."""

    def __init__(
        self,
        journal: Journal,
        bus: EventBus,
        dispatcher: Dispatcher,
        *,
        now: Callable[[], datetime] = utc_now,
        readings_per_second: float = READINGS_PER_SECOND,
    ) -> None:
        self._journal = journal
        self._bus = bus
        self._dispatcher = dispatcher
        self._now = now
        self._live: dict[str, Task] = {}
        self._ages: list[tuple[datetime, str]] = []
        """When live tasks were created, and their ids: in order, so that nobody sorts them."""
        self._ended: OrderedDict[str, tuple[float, Task]] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._changes: set[asyncio.Task[Any]] = set()
        self._readings = Throttle(1 / readings_per_second, self._tell_progress)

    # -- reading

    async def get(self, task_id: str) -> Task:
        """The task as it is now. Raises NotFound."""
        task = self._remembered(task_id) or await self._journal.get(task_id)
        if task is None:
            raise NotFound(f"no task {task_id}", task_id=task_id)
        return task

    async def made(self, key: str, fingerprint: str) -> Task | None:
        """The task that was added under ``key``, or None. Raises IdempotencyMismatch when it was another request."""
        task_id = await self._journal.made(key, fingerprint)
        return None if task_id is None else await self.get(task_id)

    async def query(self, query: TaskQuery) -> tuple[list[Task], bool]:
        """A page of tasks with their latest readings, and whether there are more."""
        tasks, more = await self._journal.query(query)
        return [self._with_reading(task) for task in tasks], more

    def live(self) -> list[Task]:
        """All tasks that have not ended, oldest first."""
        return [self._live[task_id] for _, task_id in self._ages]

    async def ended(self, task_id: str) -> Task:
        """The task once it has ended. Raises NotFound."""
        while True:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiters = self._waiters.setdefault(task_id, set())
            waiters.add(waiter)
            try:
                task = await self.get(task_id)
                if task.ended:
                    return task
                await waiter
            finally:
                waiters.discard(waiter)
                if not waiters and self._waiters.get(task_id) is waiters:
                    del self._waiters[task_id]

    # -- changing

    async def load(self) -> list[Task]:
        """Read the live tasks of an earlier start into memory, oldest first. Called once, before anything else."""
        for task in await self._journal.live():
            self._enter(task)
        return self.live()

    async def add(
        self, task: Task, files: Sequence[File] = (), *, key: str | None = None, fingerprint: str = ""
    ) -> Task:
        """Take in a new task; its row is durable when this returns. See ``Journal.insert`` for ``key``."""

        task = _fit(task, None)

        async def insert() -> Task:
            task_id = await self._journal.insert(task, files=files, key=key, fingerprint=fingerprint)
            if task_id != task.id:
                return await self.get(task_id)
            self._commit(task)
            return task

        return await self._whole(insert())

    async def change(self, task_id: str, next_of: Callable[[Task], Task], *, files: Sequence[File] = ()) -> Task:
        """Replace the task by ``next_of`` its present value; the same object means no change.

        ``next_of`` is called under the task's lock and may raise, which changes nothing.

        Raises:
            NotFound: unknown id.
            Conflict: the row was changed by somebody else.
            Unavailable: the journal does not write; memory and row are as they were.
        """

        async def carry_out() -> Task:
            async with self._locks.setdefault(task_id, asyncio.Lock()):
                was = await self.get(task_id)
                task = next_of(was)
                if task is was:
                    return was
                task = _fit(task, was)
                if not await self._journal.save(task, was=was, files=files):
                    await self._reload(task_id)
                    raise Conflict("the task was changed in the meantime", task_id=task_id)
                self._commit(task, was=was)
                return self._remembered(task_id) or task

        return await self._whole(carry_out())

    async def move(
        self,
        task_id: str,
        status: TaskStatus,
        *,
        check: Callable[[Task], None] | None = None,
        files: Sequence[File] = (),
        **changes: Any,
    ) -> Task:
        """The task after a move to ``status``, if the table and ``check`` (which may raise Conflict) allow it."""

        def next_of(was: Task) -> Task:
            if check is not None:
                check(was)
            return was.to(status, now=self._now(), **changes)

        return await self.change(task_id, next_of, files=files)

    async def end(
        self,
        task: Task,
        status: TaskStatus,
        *,
        files: Sequence[File] = (),
        checkpoint: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Task:
        """End the attempt that ``task`` is at. A requested cancel allows no other end than cancelled.

        ``checkpoint``: what another attempt at the same request may begin with.

        Raises:
            Conflict: the attempt has ended already, or a cancel came first.
        """

        def check(was: Task) -> None:
            if was.attempt != task.attempt:
                raise Conflict(f"attempt {task.attempt} has ended", task_id=task.id)
            if was.cancel_requested and status is not TaskStatus.CANCELLED:
                raise Conflict("a cancel was requested", task_id=task.id)

        return await self.move(
            task.id,
            status,
            check=check,
            files=files,
            ended_at=self._now(),
            checkpoint=dict(checkpoint or {}),
            **changes,
        )

    async def edit(self, task_id: str, edited: Callable[[Task], Mapping[str, Any]]) -> Task:
        """Change fields and keep the status; no fields mean no change."""

        def next_of(was: Task) -> Task:
            changes = edited(was)
            if not changes:
                return was
            return replace(was, updated_at=self._now(), version=was.version + 1, **changes)

        return await self.change(task_id, next_of)

    async def delete(self, task_id: str, check: Callable[[Task], None]) -> None:
        """Remove a task, if ``check`` does not raise."""

        async def carry_out() -> None:
            async with self._locks.setdefault(task_id, asyncio.Lock()):
                task = await self.get(task_id)
                check(task)
                await self._journal.delete(task_id)
                self._forget(task_id)
                self._bus.publish(Event(self._bus.next_seq(), EventType.DELETED, task))

        await self._whole(carry_out())

    async def purge(self, *, ended_before: datetime, limit: int) -> int:
        """Delete ended tasks older than that, silently; gives their number."""
        deleted = await self._journal.purge(ended_before_iso=ended_before.isoformat(), limit=limit)
        if deleted:
            self._ended.clear()
        return deleted

    async def shrink(self, pages: int) -> int:
        """Give back to the disk at most so many pages of the journal's file; how many are still to go."""
        return await self._journal.shrink(pages)

    def report(self, task_id: str, attempt: int, progress: Progress) -> None:
        """Take a reading of a running attempt; one of an attempt that is over is ignored.

        The percentage never falls within an attempt.
        """
        task = self._live.get(task_id)
        if task is None or task.attempt != attempt or task.status is not TaskStatus.RUNNING:
            return
        last = task.progress.percent if task.progress is not None else None
        if last is not None and progress.percent is not None and progress.percent < last:
            progress = replace(progress, percent=last)
        self._live[task_id] = replace(task, progress=progress)
        self._readings.touch(task_id)

    def clock_stepped(self, step: timedelta) -> None:
        """The wall clock was set: what runs has begun as much earlier or later, so that its elapsed time stays true."""
        for task_id, task in tuple(self._live.items()):
            if task.started_at is not None:
                self._live[task_id] = replace(task, started_at=task.started_at + step)

    def checkpointed(self, task_id: str, attempt: int, checkpoint: Mapping[str, Any]) -> None:
        """The journal holds a new checkpoint of that attempt."""
        task = self._live.get(task_id)
        if task is not None and task.attempt == attempt:
            self._live[task_id] = replace(task, checkpoint=dict(checkpoint))

    async def aclose(self) -> None:
        """Wait for changes whose callers have gone, and leave no timer behind."""
        while self._changes:
            await asyncio.wait(set(self._changes))
        self._readings.close()

    # -- inside

    async def _whole(self, change: Coroutine[Any, Any, T]) -> T:
        """Carry out ``change`` to its end even when the caller is cancelled while it waits."""
        running = asyncio.get_running_loop().create_task(change)
        self._changes.add(running)
        running.add_done_callback(self._changed)
        return await asyncio.shield(running)

    def _changed(self, change: asyncio.Task[Any]) -> None:
        self._changes.discard(change)
        if not change.cancelled():
            change.exception()  # the caller has it; one whose caller has gone is nobody's surprise

    def _remembered(self, task_id: str) -> Task | None:
        task = self._live.get(task_id)
        if task is None and task_id in self._ended:
            task = self._ended[task_id][1]
        return task

    def _with_reading(self, row: Task) -> Task:
        live = self._live.get(row.id)
        return live if live is not None and live.version == row.version else row

    async def _reload(self, task_id: str) -> None:
        """The row is not what memory says: take it over, and tell all who listen or wait."""
        self._forget(task_id)
        task = await self._journal.get(task_id)
        if task is not None:
            self._commit(task)

    def _commit(self, task: Task, was: Task | None = None) -> None:
        """The row says ``task``: so does memory, and all who listen are told."""
        current = self._live.get(task.id)
        if current is not None and was is not None:
            if task.started_at == was.started_at:
                task = replace(task, started_at=current.started_at)  # the clock may have been set meanwhile
            if task.status is TaskStatus.RUNNING:  # readings and checkpoints may have come while the row was written
                task = replace(task, progress=current.progress)
            else:
                self._readings.flush(task.id)  # the last reading goes out before the state that ends it
                task = replace(task, progress=None)
            if task.attempt == was.attempt and task.checkpoint is was.checkpoint:
                task = replace(task, checkpoint=current.checkpoint)
        self._forget(task.id)
        if task.ended:
            self._keep_ended(task)
        else:
            self._enter(task)
        self._dispatch(task, was)
        self._bus.publish(Event(self._bus.next_seq(), EventType.STATUS, task))
        if task.ended:
            for waiter in self._waiters.get(task.id, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def _dispatch(self, task: Task, was: Task | None) -> None:
        if task.status is TaskStatus.QUEUED:
            if was is None or was.status is not TaskStatus.QUEUED:
                self._dispatcher.enqueue(task.id, lane=task.lane, priority=task.priority)
            elif task.priority != was.priority:
                self._dispatcher.reprioritise(task.id, task.priority)
        elif was is not None and was.status is TaskStatus.QUEUED:
            self._dispatcher.revoke(task.id)

    def _keep_ended(self, task: Task) -> None:
        now = time.monotonic()
        self._ended[task.id] = (now, task)
        while self._ended:
            since, _ = next(iter(self._ended.values()))
            if len(self._ended) <= KEEP_ENDED and now - since < KEEP_ENDED_SECONDS:
                break
            self._ended.popitem(last=False)

    def _enter(self, task: Task) -> None:
        self._live[task.id] = task
        insort(self._ages, (task.created_at, task.id))

    def _forget(self, task_id: str) -> None:
        live = self._live.pop(task_id, None)
        if live is not None:
            del self._ages[bisect_left(self._ages, (live.created_at, task_id))]
        self._ended.pop(task_id, None)
        self._readings.drop(task_id)

    def _tell_progress(self, task_id: str) -> None:
        task = self._live.get(task_id)
        if task is not None:
            self._bus.publish(Event(self._bus.next_seq(), EventType.PROGRESS, task))


def _fit(task: Task, was: Task | None) -> Task:
    """``task`` with nothing in it that could not be shown again: what a caller sent is refused, the rest repaired.

    Raises:
        InvalidRequest: the request or the webhook is not valid Unicode.
    """
    if was is None or task.request is not was.request:
        refuse_invalid(task.request)
    if was is None and task.webhook is not None:
        refuse_invalid(task.webhook.url, "webhook_url")
        refuse_invalid(task.webhook.base, "Host")
    result, error = repaired(task.result), task.error
    if error is not None:
        words = {name: repaired(getattr(error, name)) for name in ("message", "detail", "param")}
        if any(words[name] is not getattr(error, name) for name in words):
            error = replace(error, **words)
    return task if result is task.result and error is task.error else replace(task, result=result, error=error)
