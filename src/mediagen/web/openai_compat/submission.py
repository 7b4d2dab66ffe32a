"""Submits the tasks of images and videos once, waits for them, and turns their failures into errors."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel

from mediagen.core import errors
from mediagen.core.errors import Conflict, MediagenError, NotFound
from mediagen.core.keys import Caller
from mediagen.core.tasks import Task, TaskStatus
from mediagen.core.webhooks import Webhook
from mediagen.pipelines.inputs import RequestInputs
from mediagen.tasks.requests import fingerprint_of, stored_form
from mediagen.tasks.service import TaskService
from mediagen.web.http.problems import DO_NOT_RETRY, TaskFailed
from mediagen.web.tasks.routes import TASK_HEADER

REPEAT_SECONDS: Final = 600.0
MAX_REMEMBERED: Final = 2048
_UNSURE: Final = frozenset({"outcome_unknown", "cancelled", "timeout"})
"""Codes of failed tasks whose work may have been done nevertheless."""


class RepeatCache:
    """Remembers the tasks of recent requests, for clients that repeat one without an Idempotency-Key.

    OpenAI's clients repeat a POST whose response they lost and say so only in ``x-stainless-retry-count``. A repeat by
    the same caller with the same body returns the original task; the same body without that header is new work.
    """

    def __init__(self) -> None:
        self._made: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def find(self, request: web.Request, digest: str) -> str | None:
        """The id of the original task, if this is such a repeat."""
        count = request.headers.get("x-stainless-retry-count", "0")
        at, task_id = self._made.get(digest, (0.0, None))
        if count in {"", "0"} or task_id is None or time.monotonic() - at > REPEAT_SECONDS:
            return None
        return task_id

    def remember(self, digest: str, task_id: str) -> None:
        self._made[digest] = (time.monotonic(), task_id)
        self._made.move_to_end(digest)
        while len(self._made) > MAX_REMEMBERED:
            self._made.popitem(last=False)


class TaskSubmitter:
    """Submits tasks and waits for them."""

    def __init__(self, service: TaskService) -> None:
        self._service = service
        self._repeat_cache = RepeatCache()

    async def submit(
        self,
        kind: str,
        spec: BaseModel,
        request: web.Request,
        caller: Caller,
        *,
        priority: int | None = None,
        timeout_seconds: float | None = None,
        webhook: Webhook | None = None,
        request_inputs: RequestInputs | None = None,
    ) -> Task:
        """The new task, or that of the request that this one repeats. Raises as ``TaskService.submit``.

        ``request_inputs`` are claimed when the task is new.
        """
        asked = stored_form(spec)
        key = request.headers.get("Idempotency-Key")
        same = asked if request_inputs is None else _compare_by_content(asked, request_inputs)
        digest = fingerprint_of({"owner": caller.owner, "kind": kind, "request": same})
        if key is None and (find := self._repeat_cache.find(request, digest)) is not None:
            with suppress(NotFound):
                was = await self._service.get(find, owner=caller.sees)
                if not _invites_repeat(was):
                    return was
        task = await self._service.submit(
            kind,
            spec,
            priority=50 if priority is None else priority,
            timeout_seconds=timeout_seconds,
            owner=caller.owner,
            key=key,
            webhook=webhook,
            task_id=None if request_inputs is None else request_inputs.task_id,
            files=() if request_inputs is None else request_inputs.stored,
            same=same,
        )
        if request_inputs is not None and task.id == request_inputs.task_id:
            request_inputs.claim()
        self._repeat_cache.remember(digest, task.id)
        return task

    async def wait(self, task: Task, caller: Caller) -> Task:
        """Wait until the task has ended."""
        return await self._service.wait(task.id, owner=caller.sees)


def _compare_by_content(asked: Mapping[str, Any], request_inputs: RequestInputs) -> dict[str, Any]:
    """The request as it is compared with others: by the content of its inputs, since their ids are new each time."""
    content = {file.id: [file.bytes, file.checksum.algorithm, file.checksum.value] for file in request_inputs.stored}
    inputs = [{**each, "file_id": content.get(each["file_id"], each["file_id"])} for each in asked.get("inputs", ())]
    return {**asked, "inputs": inputs} if inputs else dict(asked)


def _invites_repeat(task: Task) -> bool:
    """Whether the task failed so that a client is right to repeat it: certainly nothing was made."""
    error = task.error
    return task.status is TaskStatus.FAILED and error is not None and error.retryable and error.code not in _UNSURE


def extra_fields(body: BaseModel) -> dict[str, Any]:
    """Unknown fields, which are passed on to the provider, without nulls."""
    return {name: value for name, value in (body.model_extra or {}).items() if value is not None}


def error_from_task(task: Task) -> MediagenError:
    """The failure of an ended task, as the error of a call that waited for it."""
    error = task.error
    if error is None:
        return Conflict(f"the task is {task.status}", task_id=task.id)
    headers = {TASK_HEADER: task.id}
    if not error.retryable or error.code in _UNSURE:
        headers |= DO_NOT_RETRY
    known = _BY_CODE.get(error.code, MediagenError)
    about = {"param": error.param, "retry_after": error.retry_after, "headers": headers}
    return (TaskFailed if known is MediagenError else known)(error.message, task_id=task.id, **about)


def _by_code() -> Mapping[str, type[MediagenError]]:
    """For each code, the error class nearest to the root."""
    found: dict[str, type[MediagenError]] = {}
    level: list[type[MediagenError]] = [errors.MediagenError]
    while level:
        for error in level:
            found.setdefault(error.code, error)
        level = [child for error in level for child in error.__subclasses__()]
    return found


_BY_CODE: Final = _by_code()
