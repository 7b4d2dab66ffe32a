"""Builds the objects of ``/v1/videos`` from tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import structlog
from pydantic import ValidationError

from mediagen.core.errors import MediagenError
from mediagen.core.files import File
from mediagen.core.tasks import Task, TaskError, TaskStatus
from mediagen.pipelines.videos import VideoSpec, build_video_request
from mediagen.providers.registry import Providers
from mediagen.tasks.ports import Files
from mediagen.web.api.views import UNSHOWABLE, Views
from mediagen.web.openai_compat.video_schemas import STATUS, VideoError, VideoView, video_id_of

log = structlog.get_logger("mediagen.web")


class VideoViews:
    def __init__(self, files: Files, views: Views, providers: Providers) -> None:
        self._providers = providers
        self._files = files
        self._views = views

    async def get_file(self, task: Task) -> File | None:
        """The video of the task; None: it is not made yet, or was deleted."""
        file_id = (task.result or {}).get("file")
        return await self._files.get(file_id) if isinstance(file_id, str) else None

    async def view(self, task: Task, base: str) -> VideoView:
        """The object of ``task``, for a caller that reaches us at ``base``; reduced if some of it cannot be shown."""
        try:
            return await self._view(task, base)
        except UNSHOWABLE as exc:
            log.warning("task_not_shown", task_id=task.id, error=f"{type(exc).__name__}: {exc}")
            error = TaskError("internal", "this video cannot be shown; the server's log says why", False, task.attempt)
            return await self._view(replace(task, request={}, result=None, error=error, progress=None), base)

    async def _view(self, task: Task, base: str) -> VideoView:
        file = await self.get_file(task)
        spec, result, error = task.request, task.result or {}, task.error
        percent = task.progress.percent if task.progress is not None else None
        ignored, adapted = self._describe_options(task)
        done = task.status is TaskStatus.COMPLETED
        return VideoView(
            id=video_id_of(task),
            model=result.get("model") or spec.get("model") or "",
            status=STATUS[task.status],
            task_status=task.status,
            progress=100 if done else (percent or 0) if task.status is TaskStatus.RUNNING else 0,
            created_at=int(task.created_at.timestamp()),
            completed_at=int(task.ended_at.timestamp()) if done and task.ended_at is not None else None,
            expires_at=None,
            seconds=_format_seconds(spec.get("seconds")) or _format_seconds(result.get("reported", {}).get("seconds")),
            size=spec.get("size") or result.get("reported", {}).get("size"),
            prompt=spec.get("prompt"),
            remixed_from_video_id=spec.get("remixed_from"),
            error=None if error is None else VideoError(code=error.code, message=error.message),
            url=None if file is None else self._views.file(file, base).url,
            file_id=None if file is None else file.id,
            task_id=task.id,
            metadata=spec.get("metadata"),
            usage=result.get("usage"),
            cost_usd=result.get("cost_usd"),
            ignored=ignored,
            adapted=adapted,
        )

    def _describe_options(self, task: Task) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Which options are ignored or adapted: by the result, or before there is one, by the provider."""
        if task.result is not None:
            return task.result.get("ignored", []), task.result.get("adapted", {})
        try:
            offer, request = build_video_request(VideoSpec(**{**task.request, "inputs": ()}), self._providers, [])
        except (MediagenError, ValidationError):
            return [], {}  # the model is gone, or needs an image
        told = offer.provider.effective_options(request)
        return list(told.ignored), {name: dict(instead) for name, instead in told.adapted.items()}


def _format_seconds(seconds: object) -> str | None:
    """Seconds as OpenAI writes them: as text."""
    return f"{seconds:g}" if isinstance(seconds, int | float) else None if seconds is None else str(seconds)
