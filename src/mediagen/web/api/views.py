"""From the house's values to what is said of them. Rows keep ids; URLs are made here, when they are read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Protocol, cast

import structlog

from mediagen.core.clock import utc_now
from mediagen.core.files import File
from mediagen.core.redaction import redact, redact_text
from mediagen.core.tasks import RETRYABLE, Task, TaskError, TaskStatus
from mediagen.core.text import repaired
from mediagen.tasks.ports import Files
from mediagen.tasks.timing import elapsed_seconds, remaining_seconds
from mediagen.web.api.schemas import (
    ChecksumView,
    FileView,
    TaskErrorView,
    TaskView,
    TransferView,
    VariantView,
)
from mediagen.web.auth.signed_urls import Links

_KEPT_REQUESTS: Final = 256

UNSHOWABLE: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What is raised where a row does not hold what it should: one such row must not take others along."""

log = structlog.get_logger("mediagen.web")


class Tasks(Protocol):
    """What the views ask of the tasks room."""

    async def get(self, task_id: str, *, owner: str | None = None) -> Task: ...

    def position(self, task: Task) -> int | None: ...


class Views:
    """Makes the objects of the contract."""

    def __init__(
        self,
        tasks: Tasks,
        files: Files,
        *,
        base_path: str,
        links: Links,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._tasks = tasks
        self._files = files
        self._base_path = base_path
        self._links_to = links
        self._now = now
        self._requests: OrderedDict[str, tuple[dict[str, Any], dict[str, Any]]] = OrderedDict()

    async def task(self, task: Task, base: str) -> TaskView:
        """``task`` for a caller that reaches us at ``base``; of one that cannot be shown, what can be."""
        try:
            return await self._task(task, base)
        except UNSHOWABLE as exc:
            log.warning("task_not_shown", task_id=task.id, error=f"{type(exc).__name__}: {exc}")
            error = TaskError("internal", "this task cannot be shown; the server's log says why", False, task.attempt)
            return await self._task(replace(task, request={}, result=None, error=error, progress=None), base)

    async def _task(self, task: Task, base: str) -> TaskView:
        progress = task.progress if task.status is TaskStatus.RUNNING else None
        transfer = progress.transfer if progress is not None else None
        error = task.error
        remaining = remaining_seconds(task)
        return TaskView(
            id=task.id,
            kind=task.kind,
            status=task.status,
            phase=progress.phase if progress is not None else None,
            progress=self._percent(task),
            transfer=None
            if transfer is None
            else TransferView(
                stage=transfer.stage,
                bytes_done=transfer.done,
                bytes_total=transfer.total,
                bytes_per_second=round(transfer.bytes_per_second, 1),
            ),
            elapsed_seconds=round(elapsed_seconds(task, self._now()), 3),
            remaining_seconds=None if remaining is None else round(remaining, 1),
            attempt=task.attempt,
            max_attempts=task.max_attempts,
            priority=task.priority,
            queue_position=self._tasks.position(task),
            created_at=task.created_at,
            started_at=task.started_at,
            ended_at=task.ended_at,
            request=self._redacted(task),
            result=None if task.result is None else repaired(await self._result(task.result, base)),
            error=None
            if error is None
            else TaskErrorView(
                code=error.code,
                message=error.message,
                retryable=error.retryable,
                attempt=error.attempt,
                detail=error.detail,
                retry_after=error.retry_after,
            ),
            webhook_url=None if task.webhook is None else redact_text(task.webhook.url),
            links=self._links(task),
        )

    async def tasks(self, tasks: Sequence[Task], base: str) -> list[TaskView]:
        return [await self.task(task, base) for task in tasks]

    def file(self, file: File, base: str, *, download: bool = False) -> FileView:
        """``file`` for a caller that reaches us at ``base``; ``download``: its URL gives an attachment."""
        url, url_expires_at = self._links_to.of(file, base, download=download)
        return FileView(
            id=file.id,
            filename=file.filename,
            bytes=file.bytes,
            media_type=file.media_type,
            kind=file.kind,
            sha256=file.sha256,
            checksum=ChecksumView(algorithm=file.checksum.algorithm, value=file.checksum.value),
            width=file.width,
            height=file.height,
            duration_seconds=file.duration_seconds,
            url=url,
            url_expires_at=url_expires_at,
            created_at=file.created_at,
            task_id=file.task_id,
            variants=[
                VariantView(
                    name=variant.variant or "",
                    media_type=variant.media_type,
                    bytes=variant.bytes,
                    width=variant.width,
                    height=variant.height,
                    url=self._links_to.of(variant, base)[0],
                )
                for variant in file.variants
            ],
        )

    def path(self, suffix: str) -> str:
        """A path of ours as the outside knows it."""
        return f"{self._base_path}{suffix}"

    def _redacted(self, task: Task) -> dict[str, Any]:
        """The request as it may be shown. It stays the same object while the task moves, so it is worth keeping."""
        known = self._requests.pop(task.id, None)
        if known is None or known[0] is not task.request:
            known = (task.request, cast(dict[str, Any], repaired(redact(task.request))))
        self._requests[task.id] = known
        if len(self._requests) > _KEPT_REQUESTS:
            self._requests.popitem(last=False)
        return known[1]

    @staticmethod
    def _percent(task: Task) -> int | None:
        if task.status is TaskStatus.COMPLETED:
            return 100
        if task.status is TaskStatus.QUEUED:
            return 0
        return task.progress.percent if task.progress is not None else None

    def _links(self, task: Task) -> dict[str, str]:
        this = self.path(f"/v1/tasks/{task.id}")
        links = {"self": this, "events": f"{this}/events"}
        if not task.ended:
            links["cancel"] = f"{this}/cancel"
        if task.status in RETRYABLE and task.attempt < task.max_attempts:
            links["retry"] = f"{this}/retry"
        if task.webhook is not None:
            links["deliveries"] = self.path(f"/v1/webhooks/deliveries?task={task.id}")
        return links

    async def _result(self, result: dict[str, Any], base: str) -> dict[str, Any]:
        shown = dict(result)
        if isinstance(file_id := shown.get("file"), str):
            shown["file"] = await self._file(file_id, base)
        for name in ("files", "subtitles"):
            if isinstance(ids := shown.get(name), list):
                shown[name] = [await self._file(file_id, base) for file_id in ids if isinstance(file_id, str)]
        return shown

    async def _file(self, file_id: str, base: str) -> dict[str, Any]:
        file = await self._files.get(file_id)
        if file is None:
            return {"id": file_id, "object": "file", "deleted": True}
        return self.file(file, base).model_dump(mode="json")
