"""Routes of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from mediagen.core.errors import (
    AttemptsExhausted,
    Conflict,
    InvalidRequest,
    MediagenError,
    NotFound,
    QueueFull,
    StorageUnavailable,
)
from mediagen.core.tasks import Task, TaskQuery
from mediagen.tasks.deletions import Deletions
from mediagen.tasks.service import TaskService, Verb
from mediagen.tasks.timing import poll_after_seconds
from mediagen.web.api.routing import Answer, Call, Empty, route
from mediagen.web.api.schemas import MAX_BULK, TaskView
from mediagen.web.api.views import Views
from mediagen.web.tasks.schemas import (
    BulkAnswer,
    BulkItem,
    Deleted,
    Deletion,
    Edited,
    NewPriority,
    Refusal,
    Selection,
    TaskFilter,
    TaskPage,
)

TASK_HEADER: Final = "x-mediagen-task"
"""The id of the task, in every answer that makes or shows one: a client finds it without knowing the answer's shape."""
_AT_ONCE: Final = 100
"""Tasks of a bulk call that are worked on at the same time."""


class TaskRoutes:
    """``/v1/tasks``."""

    def __init__(self, service: TaskService, deletions: Deletions, views: Views) -> None:
        self._service = service
        self._deletions = deletions
        self._views = views

    @route("GET", "/v1/tasks", "List tasks", query=TaskFilter, answer=TaskPage)
    async def list_tasks(self, call: Call[TaskFilter, Empty]) -> TaskPage:
        tasks, more = await self._service.query(
            TaskQuery(
                status=call.query.status,
                kind=call.query.kind,
                limit=call.query.limit,
                after=call.query.after,
                descending=call.query.order == "desc",
                owner=call.caller.sees,
            )
        )
        data = await self._views.tasks(tasks, call.base)
        return TaskPage(
            data=data,
            has_more=more,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
        )

    @route(
        "GET", "/v1/tasks/{id}", "Get a task", answer=TaskView, fails=(NotFound,), gives=("Retry-After", TASK_HEADER)
    )
    async def get_task(self, call: Call[Empty, Empty]) -> Answer:
        return await self._answer(call, await self._service.get(call.id, owner=call.caller.sees))

    @route("POST", "/v1/tasks/{id}/cancel", "Cancel a task", answer=TaskView, fails=(NotFound, Conflict))
    async def cancel_task(self, call: Call[Empty, Empty]) -> Answer:
        return await self._answer(call, await self._service.cancel(call.id, owner=call.caller.sees))

    @route(
        "POST",
        "/v1/tasks/{id}/retry",
        "Retry an ended task, unchanged or edited",
        body=Edited,
        body_optional=True,
        answer=TaskView,
        fails=(NotFound, Conflict, AttemptsExhausted, QueueFull),
    )
    async def retry_task(self, call: Call[Empty, Edited]) -> Answer:
        edits = call.body.model_extra or None
        return await self._answer(call, await self._service.retry(call.id, edits, owner=call.caller.sees))

    @route(
        "PATCH",
        "/v1/tasks/{id}",
        "Change the priority of a task",
        body=NewPriority,
        answer=TaskView,
        fails=(NotFound, Conflict),
    )
    async def set_priority(self, call: Call[Empty, NewPriority]) -> Answer:
        task = await self._service.set_priority(call.id, call.body.priority, owner=call.caller.sees)
        return await self._answer(call, task)

    @route(
        "DELETE",
        "/v1/tasks/{id}",
        "Delete an ended task",
        query=Deletion,
        answer=Deleted,
        fails=(NotFound, Conflict, StorageUnavailable),
    )
    async def delete_task(self, call: Call[Deletion, Empty]) -> Deleted:
        if call.query.media:
            task = await self._service.get(call.id, owner=call.caller.sees)
            await self._deletions.delete_task(task, sees=call.caller.sees)
        else:
            await self._service.delete(call.id, owner=call.caller.sees)
        return Deleted(id=call.id)

    @route("POST", "/v1/tasks/cancel", "Cancel many tasks", body=Selection, answer=BulkAnswer)
    async def cancel_tasks(self, call: Call[Empty, Selection]) -> BulkAnswer:
        return await self._bulk(call, "cancel", partial(self._service.cancel, owner=call.caller.sees))

    @route(
        "POST",
        "/v1/tasks/retry",
        "Retry many ended tasks",
        body=Selection,
        answer=BulkAnswer,
        fails=(QueueFull,),
    )
    async def retry_tasks(self, call: Call[Empty, Selection]) -> BulkAnswer:
        return await self._bulk(call, "retry", partial(self._service.retry, owner=call.caller.sees))

    async def _bulk(
        self, call: Call[Empty, Selection], verb: Verb, act: Callable[[str], Awaitable[Task]]
    ) -> BulkAnswer:
        """Each task with its own outcome; one that cannot be done does not stop the others, a full queue does."""
        wanted, base = call.body, call.base
        if wanted.ids is not None:
            return _answered([item async for item, _ in self._each(wanted.ids, act, base)], has_more=False)
        if wanted.status is None:
            raise InvalidRequest("give either ids or status")
        ids, more = await self._service.candidates(
            verb, wanted.status, after=wanted.after, limit=MAX_BULK, owner=call.caller.sees
        )
        items: list[BulkItem] = []
        async for item, error in self._each(ids, act, base):
            if isinstance(error, QueueFull):
                if not items:
                    raise error
                more = True
                break
            items.append(item)
        return _answered(items, has_more=more)

    async def _each(
        self, ids: Sequence[str], act: Callable[[str], Awaitable[Task]], base: str
    ) -> AsyncIterator[tuple[BulkItem, MediagenError | None]]:
        """What became of each task, in order. Some are worked on at the same time: they share a commit."""

        async def one(task_id: str) -> tuple[BulkItem, MediagenError | None]:
            try:
                task = await act(task_id)
            except MediagenError as exc:
                return BulkItem(id=task_id, ok=False, error=Refusal(code=exc.code, message=exc.detail)), exc
            return BulkItem(id=task_id, ok=True, task=await self._views.task(task, base)), None

        for start in range(0, len(ids), _AT_ONCE):
            for done in await asyncio.gather(*map(one, ids[start : start + _AT_ONCE])):
                yield done

    async def _answer(self, call: Call[Any, Any], task: Task) -> Answer:
        return task_answer(task, await self._views.task(task, call.base))


def _answered(items: list[BulkItem], *, has_more: bool) -> BulkAnswer:
    return BulkAnswer(data=items, has_more=has_more, last_id=items[-1].id if items else None)


def task_answer(task: Task, view: TaskView, **more: Any) -> Answer:
    """A task as an answer, with ``Retry-After`` while it pays to ask again."""
    seconds = poll_after_seconds(task, datetime.now(UTC))
    headers = {TASK_HEADER: task.id} | ({} if seconds is None else {"Retry-After": str(seconds)})
    return Answer(view, headers=headers, **more)
