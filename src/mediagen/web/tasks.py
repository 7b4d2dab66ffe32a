"""Routes of tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from aiohttp import web

from mediagen.core.errors import AttemptsExhausted, Conflict, MediagenError, NotFound, QueueFull, StorageUnavailable
from mediagen.core.tasks import Task, TaskQuery, TaskStatus
from mediagen.tasks.deletions import Deletions
from mediagen.tasks.service import TaskService
from mediagen.tasks.timing import poll_after_seconds
from mediagen.web.origins import Origins
from mediagen.web.routing import Answer, Call, Empty, route
from mediagen.web.schemas import (
    MAX_BULK,
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
    TaskView,
)
from mediagen.web.views import Views

TASK_HEADER: Final = "x-mediagen-task"
"""The id of the task, in every answer that makes or shows one: a client finds it without knowing the answer's shape."""
_BULK_PAGE: Final = 100


class TaskRoutes:
    """``/v1/tasks``."""

    def __init__(self, service: TaskService, deletions: Deletions, views: Views, origins: Origins) -> None:
        self._service = service
        self._deletions = deletions
        self._views = views
        self._origins = origins

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
        data = await self._views.tasks(tasks, self._origins.base(call.request))
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
        return await self._answer(call.request, await self._service.get(call.id, owner=call.caller.sees))

    @route("POST", "/v1/tasks/{id}/cancel", "Cancel a task", answer=TaskView, fails=(NotFound, Conflict))
    async def cancel_task(self, call: Call[Empty, Empty]) -> Answer:
        return await self._answer(call.request, await self._service.cancel(call.id, owner=call.caller.sees))

    @route(
        "POST",
        "/v1/tasks/{id}/retry",
        "Try an ended task again, as it was or edited",
        body=Edited,
        body_optional=True,
        answer=TaskView,
        fails=(NotFound, Conflict, AttemptsExhausted, QueueFull),
    )
    async def retry_task(self, call: Call[Empty, Edited]) -> Answer:
        edits = call.body.model_extra or None
        return await self._answer(call.request, await self._service.retry(call.id, edits, owner=call.caller.sees))

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
        return await self._answer(call.request, task)

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
        return await self._bulk(call, partial(self._service.cancel, owner=call.caller.sees))

    @route("POST", "/v1/tasks/retry", "Try many ended tasks again", body=Selection, answer=BulkAnswer)
    async def retry_tasks(self, call: Call[Empty, Selection]) -> BulkAnswer:
        return await self._bulk(call, partial(self._service.retry, owner=call.caller.sees))

    async def _bulk(self, call: Call[Empty, Selection], verb: Callable[[str], Awaitable[Task]]) -> BulkAnswer:
        """Each task with its own outcome; one that cannot be done does not stop the others."""
        base = self._origins.base(call.request)
        if call.body.ids is not None:
            ids, more = list(dict.fromkeys(call.body.ids)), False
        else:
            ids, more = await self._ids_of(call.body.status, call.caller.sees)
        items: list[BulkItem] = []
        for task_id in ids:
            try:
                task = await verb(task_id)
            except MediagenError as exc:
                items.append(BulkItem(id=task_id, ok=False, error=Refusal(code=exc.code, message=exc.detail)))
            else:
                items.append(BulkItem(id=task_id, ok=True, task=await self._views.task(task, base)))
        return BulkAnswer(data=items, has_more=more)

    async def _ids_of(self, status: TaskStatus | None, owner: str | None) -> tuple[list[str], bool]:
        """Ids of the tasks of a status, oldest first, at most ``MAX_BULK``; and whether there are more."""
        ids: list[str] = []
        more = True
        while more and len(ids) < MAX_BULK:
            page, more = await self._service.query(
                TaskQuery(
                    status=status, limit=_BULK_PAGE, after=ids[-1] if ids else None, descending=False, owner=owner
                )
            )
            ids += [task.id for task in page]
        return ids, more

    async def _answer(self, request: web.Request, task: Task) -> Answer:
        return task_answer(task, await self._views.task(task, self._origins.base(request)))


def task_answer(task: Task, view: TaskView, **more: Any) -> Answer:
    """A task as an answer, with ``Retry-After`` while it pays to ask again."""
    seconds = poll_after_seconds(task, datetime.now(UTC))
    headers = {TASK_HEADER: task.id} | ({} if seconds is None else {"Retry-After": str(seconds)})
    return Answer(view, headers=headers, **more)
