"""Paths by which earlier clients make pictures and films: thin, over the routes of today."""

from __future__ import annotations

import re
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from mediagen.core.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    ProviderError,
    ProviderRateLimited,
    QueueFull,
    UnknownModel,
    UrlNotAllowed,
)
from mediagen.core.tasks import Task, TaskStatus
from mediagen.tasks.ports import Files
from mediagen.tasks.service import TaskService
from mediagen.web.image_shapes import ImageCreate, ImagesAnswer
from mediagen.web.images import ImageRoutes
from mediagen.web.origins import Origins
from mediagen.web.routing import Answer, Call, Empty, route, validate
from mediagen.web.schemas import Said
from mediagen.web.videos import VideoRoutes
from mediagen.web.views import Views

_STATUS: Final = {
    TaskStatus.QUEUED: "pending",
    TaskStatus.RUNNING: "processing",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "cancelled",
    TaskStatus.TIMED_OUT: "timedout",
}
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class AnyFields(BaseModel):
    """Fields of an earlier client, in either spelling: ``responseFormat`` or ``response_format``."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Begun(Said):
    """A job that was accepted."""

    task_id: str
    status: str
    created_at: datetime
    estimated_completion_time: datetime | None = None
    check_status_url: str


class OlderTask(Said):
    """A job as earlier clients read it."""

    task_id: str
    status: str
    progress: int
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    error: str | None
    result: str | None
    video_response: dict[str, Any] | None


class OlderRoutes:
    """``/api/images``, ``/api/videos``, ``/v1/videos/generations``."""

    def __init__(
        self,
        images: ImageRoutes,
        videos: VideoRoutes,
        service: TaskService,
        files: Files,
        views: Views,
        origins: Origins,
    ) -> None:
        self._images = images
        self._videos = videos
        self._service = service
        self._files = files
        self._views = views
        self._origins = origins

    @route(
        "POST",
        "/api/images/generate",
        "Make pictures (older path of POST /v1/images/generations)",
        body=AnyFields,
        answer=ImagesAnswer,
        fails=(UnknownModel, UrlNotAllowed, QueueFull, ProviderError, ProviderRateLimited),
        takes=("Idempotency-Key",),
    )
    async def older_images(self, call: Call[Empty, AnyFields]) -> Answer | web.StreamResponse:
        body = validate(ImageCreate, in_our_spelling(call.body))
        return await self._images.generated(Call(call.request, call.query, body, call.caller))

    @route(
        "POST",
        "/v1/videos/generations/async",
        "Make a film (older path of POST /v1/videos)",
        body=AnyFields,
        answer=Begun,
        status=HTTPStatus.ACCEPTED,
        fails=(UnknownModel, UrlNotAllowed, QueueFull, ProviderError),
        takes=("Idempotency-Key",),
        gives=("Location",),
        older="/api/videos/generate",
    )
    async def older_videos(self, call: Call[Empty, AnyFields]) -> Answer:
        fields = in_our_spelling(call.body)
        if fields.pop("n", 1) not in {1, None}:
            raise InvalidRequest("one film is made at a time", field="n")
        fields.pop("response_format", None)  # a film is always a link
        task = await self._videos.begun(call, fields)
        where = self._views.path(f"/v1/videos/generations/tasks/{task.id}")
        begun = Begun(
            task_id=task.id,
            status=_STATUS[task.status],
            created_at=task.created_at,
            check_status_url=f"{self._origins.base(call.request)}{where}",
        )
        return Answer(begun, headers={"Location": where})

    @route(
        "GET",
        "/v1/videos/generations/tasks/{id}",
        "Get the job of a film (older path of GET /v1/videos/{id})",
        answer=OlderTask,
        fails=(NotFound,),
        older="/api/videos/tasks/{id}",
    )
    async def older_task(self, call: Call[Empty, Empty]) -> OlderTask:
        return await self._view(call, await self._task(call))

    @route(
        "POST",
        "/v1/videos/generations/tasks/{id}/retry",
        "Try the ended job of a film again (older path of POST /v1/videos/{id}/retry)",
        answer=OlderTask,
        fails=(NotFound, Conflict, QueueFull),
    )
    async def older_retry(self, call: Call[Empty, Empty]) -> OlderTask:
        task = await self._task(call)
        return await self._view(call, await self._service.retry(task.id, owner=call.caller.sees))

    @route(
        "DELETE",
        "/v1/videos/generations/{id}",
        "Cancel the job of a film (older path of POST /v1/videos/{id}/cancel)",
        status=HTTPStatus.NO_CONTENT,
        fails=(NotFound, Conflict),
    )
    async def older_cancel(self, call: Call[Empty, Empty]) -> Answer:
        task = await self._task(call)
        await self._service.cancel(task.id, owner=call.caller.sees)
        return Answer(None)

    async def _task(self, call: Call[Empty, Empty]) -> Task:
        task = await self._service.get(call.id, owner=call.caller.sees)
        if task.kind != "video":
            raise NotFound(f"no task {call.id[:100]}")
        return task

    async def _view(self, call: Call[Empty, Empty], task: Task) -> OlderTask:
        result = task.result or {}
        file_id = result.get("file")
        file = None if file_id is None else await self._files.get(file_id)
        percent = task.progress.percent if task.progress is not None else None
        done = task.status is TaskStatus.COMPLETED
        url = None if file is None else self._views.file(file, self._origins.base(call.request)).url
        film = None
        if file is not None:
            about = {
                "width": file.width,
                "height": file.height,
                "duration": file.duration_seconds,
                "fps": task.request.get("fps"),
                "file_size_bytes": file.bytes,
                "mime_type": file.media_type,
            }
            film = {
                "created": int(task.created_at.timestamp()),
                "data": [{"url": url, "metadata": about}],
                "model": result.get("model"),
                "usage": {"videos_generated": 1, "estimated_cost": result.get("cost_usd")},
            }
        return OlderTask(
            task_id=task.id,
            status=_STATUS[task.status],
            progress=100 if done else percent or 0,
            created_at=task.created_at,
            updated_at=task.updated_at,
            completed_at=task.ended_at,
            error=None if task.error is None else task.error.message,
            result=url,
            video_response=film,
        )


def in_our_spelling(body: BaseModel) -> dict[str, Any]:
    """The fields with ``snake_case`` names. Raises InvalidRequest: one is given in both spellings."""
    fields: dict[str, Any] = {}
    for name, value in (body.model_extra or {}).items():
        ours = _HUMP.sub("_", name).lower()
        if ours in fields:
            raise InvalidRequest(f"{ours[:60]} is given twice", field=ours[:60])
        fields[ours] = value
    return fields
