"""Paths of earlier clients, as thin wrappers around the current routes."""

from __future__ import annotations

import math
import re
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

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
from mediagen.core.files import File
from mediagen.core.tasks import Task, TaskStatus
from mediagen.tasks.ports import Files
from mediagen.tasks.service import TaskService
from mediagen.web.api.routing import Answer, Call, Empty, route, validate
from mediagen.web.api.schemas import Said
from mediagen.web.api.views import Views
from mediagen.web.openai_compat.image_schemas import ImageGenerateRequest, ImagesResponse
from mediagen.web.openai_compat.images import ImageRoutes
from mediagen.web.openai_compat.videos import VideoRoutes
from mediagen.web.tasks.routes import TASK_HEADER

_STATUS: Final = {
    TaskStatus.QUEUED: "pending",
    TaskStatus.RUNNING: "processing",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "cancelled",
    TaskStatus.TIMED_OUT: "timedout",
}
_SIZE: Final = re.compile(r"(\d{1,5})x(\d{1,5})")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class LegacyFields(BaseModel):
    """Request fields of an earlier client, in camelCase (``responseFormat``) or snake_case."""

    model_config = ConfigDict(extra="allow", frozen=True)


class LegacyJob(Said):
    """An accepted job."""

    task_id: str
    status: str
    created_at: datetime
    estimated_completion_time: datetime | None = None
    check_status_url: str


class LegacyVideoMetadata(Said):
    """Metadata of a video. Fields that would need a probe of the file are null."""

    width: int | None
    height: int | None
    duration: float | None = Field(description="seconds")
    fps: int | None = Field(description="as requested")
    codec: str | None = None
    audio_codec: str | None = None
    file_size_bytes: int
    bitrate: int | None = Field(description="bits per second, averaged over the file")
    mime_type: str
    format: str


class LegacyVideo(Said):
    """A finished video; always a link."""

    url: str
    b64_json: None = None
    metadata: LegacyVideoMetadata
    revised_prompt: str | None = None


class LegacyVideoUsage(Said):
    videos_generated: int
    total_duration_seconds: float | None
    estimated_cost: float | None = Field(description="US dollars, as reported by the provider")


class LegacyVideoResult(Said):
    """The result of a job."""

    created: int
    data: list[LegacyVideo]
    model: str | None
    usage: LegacyVideoUsage


class LegacyTask(Said):
    """A job in the form that earlier clients read."""

    task_id: str
    status: str
    progress: int
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    error: str | None
    result: str | None = Field(description="URL of the video")
    video_response: LegacyVideoResult | None


class LegacyRoutes:
    """``/api/images``, ``/api/videos``, ``/v1/videos/generations``."""

    def __init__(
        self,
        images: ImageRoutes,
        videos: VideoRoutes,
        service: TaskService,
        files: Files,
        views: Views,
    ) -> None:
        self._images = images
        self._videos = videos
        self._service = service
        self._files = files
        self._views = views

    @route(
        "POST",
        "/api/images/generate",
        "Create images (older path of POST /v1/images/generations)",
        body=LegacyFields,
        answer=ImagesResponse,
        fails=(UnknownModel, UrlNotAllowed, QueueFull, ProviderError, ProviderRateLimited),
        takes=("Idempotency-Key",),
        gives=(TASK_HEADER,),
    )
    async def older_images(self, call: Call[Empty, LegacyFields]) -> Answer | web.StreamResponse:
        body = validate(ImageGenerateRequest, to_snake_case(call.body))
        return await self._images.generate(call.with_body(body))

    @route(
        "POST",
        "/v1/videos/generations/async",
        "Create a video (older path of POST /v1/videos)",
        body=LegacyFields,
        answer=LegacyJob,
        status=HTTPStatus.ACCEPTED,
        fails=(UnknownModel, UrlNotAllowed, QueueFull, ProviderError),
        takes=("Idempotency-Key",),
        gives=("Location", TASK_HEADER),
        older="/api/videos/generate",
    )
    async def older_videos(self, call: Call[Empty, LegacyFields]) -> Answer:
        fields = to_snake_case(call.body)
        if fields.pop("n", 1) not in {1, None, ""}:
            raise InvalidRequest("n must be 1: one video is made per request", field="n")
        fields.pop("response_format", None)  # a film is always a link
        task = await self._videos.create_task(call, fields)
        where = self._views.path(f"/v1/videos/generations/tasks/{task.id}")
        begun = LegacyJob(
            task_id=task.id,
            status=_STATUS[task.status],
            created_at=task.created_at,
            check_status_url=f"{call.base}{where}",
        )
        return Answer(begun, headers={"Location": where, TASK_HEADER: task.id})

    @route(
        "GET",
        "/v1/videos/generations/tasks/{id}",
        "Get a video's job (older path of GET /v1/videos/{id})",
        answer=LegacyTask,
        fails=(NotFound,),
        older="/api/videos/tasks/{id}",
    )
    async def older_task(self, call: Call[Empty, Empty]) -> LegacyTask:
        return await self._view(call, await self._task(call))

    @route(
        "POST",
        "/v1/videos/generations/tasks/{id}/retry",
        "Retry a video's ended job (older path of POST /v1/videos/{id}/retry)",
        answer=LegacyTask,
        fails=(NotFound, Conflict, QueueFull),
    )
    async def older_retry(self, call: Call[Empty, Empty]) -> LegacyTask:
        task = await self._task(call)
        return await self._view(call, await self._service.retry(task.id, owner=call.caller.sees))

    @route(
        "DELETE",
        "/v1/videos/generations/{id}",
        "Cancel a video's job (older path of POST /v1/videos/{id}/cancel)",
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

    async def _view(self, call: Call[Empty, Empty], task: Task) -> LegacyTask:
        file_id = (task.result or {}).get("file")
        file = None if file_id is None else await self._files.get(file_id)
        percent = task.progress.percent if task.progress is not None else None
        done = task.status is TaskStatus.COMPLETED
        url = None if file is None else self._views.file(file, call.base).url
        return LegacyTask(
            task_id=task.id,
            status=_STATUS[task.status],
            progress=100 if done else percent or 0,
            created_at=task.created_at,
            updated_at=task.updated_at,
            completed_at=task.ended_at,
            error=None if task.error is None else task.error.message,
            result=url,
            video_response=None if file is None or url is None else _build_result(task, file, url),
        )


def _build_result(task: Task, file: File, url: str) -> LegacyVideoResult:
    """The result of the task; where the file shows nothing, as the provider reports."""
    result = task.result or {}
    told = result.get("reported", {})
    size = _SIZE.fullmatch(str(told.get("size")))
    seconds = file.duration_seconds or _parse_seconds(told.get("seconds"))
    about = LegacyVideoMetadata(
        width=file.width or (int(size[1]) if size else None),
        height=file.height or (int(size[2]) if size else None),
        duration=seconds,
        fps=task.request.get("fps"),
        file_size_bytes=file.bytes,
        bitrate=round(file.bytes * 8 / seconds) if seconds else None,
        mime_type=file.media_type,
        format=file.media_type.partition("/")[2],
    )
    return LegacyVideoResult(
        created=int(file.created_at.timestamp()),
        data=[LegacyVideo(url=url, metadata=about)],
        model=result.get("model"),
        usage=LegacyVideoUsage(
            videos_generated=1, total_duration_seconds=seconds, estimated_cost=result.get("cost_usd")
        ),
    )


def _parse_seconds(said: object) -> float | None:
    """Positive seconds as a provider wrote them; None: they are not."""
    try:
        value = float(said) if isinstance(said, int | float | str) else 0.0
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def to_snake_case(body: BaseModel) -> dict[str, Any]:
    """The fields with their names in snake_case. Raises InvalidRequest: one is given in both spellings."""
    fields: dict[str, Any] = {}
    for name, value in (body.model_extra or {}).items():
        ours = _HUMP.sub("_", name).lower()
        if ours in fields:
            raise InvalidRequest(f"{ours[:60]} is given twice", field=ours[:60])
        fields[ours] = value
    return fields
