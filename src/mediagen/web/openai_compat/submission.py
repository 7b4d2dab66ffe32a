"""What the routes of pictures and films share: a task submitted once, waited for, and its failure said as an error."""

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
"""Codes of tasks whose work may have been done all the same."""


class RepeatCache:
    """Which task a request made a while ago, for clients that send it again without an Idempotency-Key.

    OpenAI's clients repeat a POST whose answer they lost and say so only in ``x-stainless-retry-count``. A repeat of
    the same caller with the same body gives the task of the first time; the same body without that header is new work.
    """

    def __init__(self) -> None:
        self._made: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def earlier(self, request: web.Request, digest: str) -> str | None:
        """The id of the task, when this is such a repeat."""
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
    """Submits tasks of pictures and films."""

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
        """The new task, or that of the same request a moment ago. Raises as ``TaskService.submit``.

        ``arrivals``: what came with the request; it is claimed when the task is new.
        """
        asked = stored_form(spec)
        key = request.headers.get("Idempotency-Key")
        same = asked if request_inputs is None else _by_content(asked, request_inputs)
        digest = fingerprint_of({"owner": caller.owner, "kind": kind, "request": same})
        if key is None and (earlier := self._repeat_cache.earlier(request, digest)) is not None:
            with suppress(NotFound):
                was = await self._service.get(earlier, owner=caller.sees)
                if not _may_be_repeated(was):
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
        """The task once it has ended."""
        return await self._service.wait(task.id, owner=caller.sees)


def _by_content(asked: Mapping[str, Any], request_inputs: RequestInputs) -> dict[str, Any]:
    """A request as it compares with another one: what came with it has a new id each time, and the same bytes."""
    content = {file.id: [file.bytes, file.checksum.algorithm, file.checksum.value] for file in request_inputs.stored}
    inputs = [{**each, "file_id": content.get(each["file_id"], each["file_id"])} for each in asked.get("inputs", ())]
    return {**asked, "inputs": inputs} if inputs else dict(asked)


def _may_be_repeated(task: Task) -> bool:
    """Whether the task failed in a way that a client repeats with reason: surely nothing was made."""
    error = task.error
    return task.status is TaskStatus.FAILED and error is not None and error.retryable and error.code not in _UNSURE


def extras(body: BaseModel) -> dict[str, Any]:
    """Fields that we do not know, for the provider; null is nothing."""
    return {name: value for name, value in (body.model_extra or {}).items() if value is not None}


def failure_of(task: Task) -> MediagenError:
    """Why a task that has ended is not completed, as the error of a call that waited for it."""
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
    """The class nearest to the root for each code."""
    found: dict[str, type[MediagenError]] = {}
    level: list[type[MediagenError]] = [errors.MediagenError]
    while level:
        for error in level:
            found.setdefault(error.code, error)
        level = [child for error in level for child in error.__subclasses__()]
    return found


_BY_CODE: Final = _by_code()
