"""``/v1/videos``: films as jobs, in the shapes that OpenAI's clients send and read; cancel and retry beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from mediagen.core.clock import utc_now
from mediagen.core.errors import (
    AttemptsExhausted,
    Conflict,
    ContentRefused,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    ProviderError,
    QueueFull,
    StorageFull,
    StorageUnavailable,
    TooLarge,
    UnknownModel,
    UnsupportedMedia,
    UrlNotAllowed,
)
from mediagen.core.files import File
from mediagen.core.tasks import Task, TaskQuery, TaskStatus
from mediagen.core.webhooks import Webhook
from mediagen.pipelines.variants import Variants
from mediagen.pipelines.videos import VideoSpec, film_asked_for
from mediagen.providers.registry import Providers
from mediagen.storage.base import Storage
from mediagen.tasks.ports import Files
from mediagen.tasks.service import TaskService
from mediagen.tasks.timing import poll_after_seconds
from mediagen.web.bodies import BodyLimits
from mediagen.web.content import ABOUT, CONDITIONS, IN_PART, Content
from mediagen.web.fields import read_fields
from mediagen.web.files import delete_file
from mediagen.web.generations import Generations, extras
from mediagen.web.origins import Origins
from mediagen.web.problems import BodyStalled, PreconditionFailed, RangeNotSatisfiable
from mediagen.web.routing import Answer, Call, Empty, route, validate
from mediagen.web.schemas import Given, Order, PageSize, Priority, Said
from mediagen.web.views import Views
from mediagen.web.webhooks import Notified, WebhookTargets

PREFIX: Final = "video_"
_STATUS: Final = {
    TaskStatus.QUEUED: "queued",
    TaskStatus.RUNNING: "in_progress",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "failed",
    TaskStatus.TIMED_OUT: "failed",
}
_POLL_HEADER: Final = "openai-poll-after-ms"


class VideoCreate(Notified):
    """What OpenAI's clients send, and what other providers take beside it. Null is as the provider likes best."""

    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=False)

    prompt: str = Field(min_length=1, max_length=32_000)
    model: str | None = Field(None, max_length=200, description="one of GET /v1/models; null: the first that makes one")
    seconds: float | None = Field(None, gt=0, le=3600)
    duration: float | None = Field(None, gt=0, le=3600, description="the same by another name")
    size: str | None = Field(None, max_length=20, description="WIDTHxHEIGHT")
    fps: int | None = Field(None, ge=1, le=120)
    seed: int | None = None
    negative_prompt: str | None = Field(None, max_length=32_000)
    user: str | None = Field(None, max_length=512)
    priority: Priority | None = None
    timeout_seconds: float | None = Field(None, gt=0, description="limit of one attempt")


class Remix(BaseModel):
    """Another film after one that is done."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: str = Field(min_length=1, max_length=32_000)


class VideoError(Said):
    code: str
    message: str


class VideoView(Said):
    """A film, or the job that makes it."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    task_status: TaskStatus = Field(description="the exact state")
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    seconds: str | None
    size: str | None
    prompt: str | None
    remixed_from_video_id: str | None
    error: VideoError | None
    url: str | None = Field(description="where the film is, once it is there")
    file_id: str | None
    task_id: str
    usage: dict[str, Any] | None = None


class VideoPage(Said):
    object: Literal["list"] = "list"
    data: list[VideoView]
    has_more: bool
    first_id: str | None
    last_id: str | None


class VideoFilter(Given):
    limit: PageSize = 20
    after: str | None = Field(None, pattern=r"^video_[0-9a-f]{32}$")
    order: Order = "desc"


class Variant(Given):
    """What of a film is wanted."""

    variant: Literal["video", "thumbnail", "spritesheet"] = Field(
        "video", description="the film, one frame of it as WebP, or up to 25 frames in rows of five as JPEG"
    )


class VideoDeleted(Said):
    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class VideoRoutes:
    """``/v1/videos``."""

    def __init__(
        self,
        generations: Generations,
        service: TaskService,
        providers: Providers,
        files: Files,
        storage: Storage,
        content: Content,
        views: Views,
        origins: Origins,
        limits: BodyLimits,
        targets: WebhookTargets,
        variants: Variants,
    ) -> None:
        self._targets = targets
        self._variants = variants
        self._generations = generations
        self._service = service
        self._providers = providers
        self._files = files
        self._storage = storage
        self._content = content
        self._views = views
        self._origins = origins
        self._limits = limits

    @route(
        "POST",
        "/v1/videos",
        "Make a film",
        body=VideoCreate,
        answer=VideoView,
        fails=(
            UnknownModel,
            UrlNotAllowed,
            ContentRefused,
            QueueFull,
            ProviderError,
            UnsupportedMedia,
            BodyStalled,
            TooLarge,
        ),
        streamed=True,
        takes=("Idempotency-Key",),
        gives=(_POLL_HEADER,),
    )
    async def create_video(self, call: Call[Empty, VideoCreate]) -> Answer:
        """The job, queued."""
        task = await self.begun(call, await read_fields(call.request, self._limits))
        return await self._answer(call.request, task)

    async def begun(self, call: Call[Any, Any], fields: Mapping[str, Any]) -> Task:
        """The task of a film with these fields. Raises InvalidRequest, and as ``TaskService.submit``."""
        body = validate(VideoCreate, dict(fields))
        given = extras(body)
        if "input_reference" in given:
            raise InvalidRequest("input_reference is not taken yet", field="input_reference")
        spec = VideoSpec(
            prompt=body.prompt,
            model=body.model,
            seconds=body.seconds or body.duration,
            size=body.size,
            fps=body.fps,
            seed=body.seed,
            negative_prompt=body.negative_prompt,
            user=body.user,
            extra=given,
        )
        webhook = self._targets.of(body, call.request)
        return await self._submit(call, spec, body.priority, body.timeout_seconds, webhook)

    @route(
        "POST",
        "/v1/videos/{id}/remix",
        "Make another film after one",
        body=Remix,
        answer=VideoView,
        fails=(NotFound, Conflict, UnknownModel, QueueFull, ProviderError),
        takes=("Idempotency-Key",),
        gives=(_POLL_HEADER,),
    )
    async def remix_video(self, call: Call[Empty, Remix]) -> Answer:
        """The new job, queued."""
        first = await self._task(call)
        result = first.result or {}
        if first.status is not TaskStatus.COMPLETED or "operation" not in result:
            raise InvalidRequest("only a film that is completed can be remixed", field="id")
        was = VideoSpec(**first.request)
        spec = was.model_copy(
            update={"prompt": call.body.prompt, "remix_of": result["operation"], "remixed_from": _video_id(first)}
        )
        return await self._answer(call.request, await self._submit(call, spec, None, None, None))

    @route("GET", "/v1/videos", "List films", query=VideoFilter, answer=VideoPage)
    async def list_videos(self, call: Call[VideoFilter, Empty]) -> VideoPage:
        query = call.query
        tasks, more = await self._service.query(
            TaskQuery(
                kind="video",
                limit=query.limit,
                after=None if query.after is None else _task_id(query.after),
                descending=query.order == "desc",
                owner=call.caller.sees,
            )
        )
        data = [await self._view(call.request, task) for task in tasks]
        return VideoPage(
            data=data,
            has_more=more,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
        )

    @route(
        "GET", "/v1/videos/{id}", "Get a film or its job", answer=VideoView, fails=(NotFound,), gives=(_POLL_HEADER,)
    )
    async def get_video(self, call: Call[Empty, Empty]) -> Answer:
        return await self._answer(call.request, await self._task(call))

    @route(
        "GET|HEAD",
        "/v1/videos/{id}/content",
        "Get the bytes of a film or of a picture of it, or ranges of them",
        query=Variant,
        fails=(
            NotFound,
            UnsupportedMedia,
            PreconditionFailed,
            RangeNotSatisfiable,
            StorageUnavailable,
            StorageFull,
            DeadlineExceeded,
        ),
        media_type="*/*",
        takes=CONDITIONS,
        gives=ABOUT,
        also=IN_PART,
    )
    async def get_video_content(self, call: Call[Variant, Empty]) -> web.StreamResponse:
        """404 until the film is there: OpenAI's clients would repeat a 409 by themselves.

        A picture is made when it is first asked for, and kept with the film.
        """
        task = await self._task(call)
        file = await self._film(task)
        if file is None:
            raise NotFound(f"the film is not there: its job is {_STATUS[task.status]}", field="id")
        if call.query.variant != "video":
            file = await self._variants.of(file, call.query.variant)
        return await self._content.respond(call.request, file, download=False)

    @route(
        "DELETE",
        "/v1/videos/{id}",
        "Delete a film with its job",
        answer=VideoDeleted,
        fails=(NotFound, StorageUnavailable),
    )
    async def delete_video(self, call: Call[Empty, Empty]) -> VideoDeleted:
        """A job that runs is cancelled first."""
        task = await self._task(call)
        if not task.ended:
            task = await self._service.cancel(task.id, owner=call.caller.sees)
        file = await self._film(task)
        if file is not None:
            await delete_file(self._files, self._storage, file)
        await self._service.delete(task.id, owner=call.caller.sees)
        return VideoDeleted(id=call.id)

    @route("POST", "/v1/videos/{id}/cancel", "Cancel the job of a film", answer=VideoView, fails=(NotFound, Conflict))
    async def cancel_video(self, call: Call[Empty, Empty]) -> Answer:
        task = await self._task(call)
        return await self._answer(call.request, await self._service.cancel(task.id, owner=call.caller.sees))

    @route(
        "POST",
        "/v1/videos/{id}/retry",
        "Try the ended job of a film again",
        answer=VideoView,
        fails=(NotFound, Conflict, AttemptsExhausted, QueueFull),
    )
    async def retry_video(self, call: Call[Empty, Empty]) -> Answer:
        task = await self._task(call)
        return await self._answer(call.request, await self._service.retry(task.id, owner=call.caller.sees))

    async def _submit(
        self,
        call: Call[Any, Any],
        spec: VideoSpec,
        priority: int | None,
        timeout_seconds: float | None,
        webhook: Webhook | None,
    ) -> Task:
        offer, _ = film_asked_for(spec, self._providers)  # what cannot be made is refused before it is a task
        spec = spec.model_copy(update={"model": offer.name})  # whoever named none sees which one it is
        return await self._generations.submit(
            "video",
            spec,
            call.request,
            call.caller,
            priority=priority,
            timeout_seconds=timeout_seconds,
            webhook=webhook,
        )

    async def _task(self, call: Call[Any, Any]) -> Task:
        """The task of the film in the path. Raises NotFound."""
        try:
            task = await self._service.get(_task_id(call.id), owner=call.caller.sees)
        except NotFound:
            task = None
        if task is None or task.kind != "video":
            raise NotFound(f"there is no video {call.id[:100]}", field="id")
        return task

    async def _film(self, task: Task) -> File | None:
        file_id = (task.result or {}).get("file")
        return None if file_id is None else await self._files.get(file_id)

    async def _answer(self, request: web.Request, task: Task) -> Answer:
        seconds = poll_after_seconds(task, utc_now())
        headers = {} if seconds is None else {_POLL_HEADER: str(int(seconds * 1000))}
        return Answer(await self._view(request, task), headers=headers)

    async def _view(self, request: web.Request, task: Task) -> VideoView:
        file = await self._film(task)
        spec, result, error = task.request, task.result or {}, task.error
        base = self._origins.base(request)
        percent = task.progress.percent if task.progress is not None else None
        done = task.status is TaskStatus.COMPLETED
        return VideoView(
            id=_video_id(task),
            model=result.get("model") or spec.get("model") or "",
            status=_STATUS[task.status],
            task_status=task.status,
            progress=100 if done else (percent or 0) if task.status is TaskStatus.RUNNING else 0,
            created_at=int(task.created_at.timestamp()),
            completed_at=int(task.ended_at.timestamp()) if done and task.ended_at is not None else None,
            expires_at=None,
            seconds=_written(spec.get("seconds")) or _written(result.get("reported", {}).get("seconds")),
            size=spec.get("size") or result.get("reported", {}).get("size"),
            prompt=spec.get("prompt"),
            remixed_from_video_id=spec.get("remixed_from"),
            error=None if error is None else VideoError(code=error.code, message=error.message),
            url=None if file is None else self._views.file(file, base).url,
            file_id=None if file is None else file.id,
            task_id=task.id,
            usage=result.get("usage"),
        )


def _task_id(video_id: str) -> str:
    return f"task_{video_id.removeprefix(PREFIX)}" if video_id.startswith(PREFIX) else video_id


def _video_id(task: Task) -> str:
    return f"{PREFIX}{task.id.removeprefix('task_')}"


def _written(seconds: object) -> str | None:
    """Seconds as OpenAI writes them: in text."""
    return f"{seconds:g}" if isinstance(seconds, int | float) else None if seconds is None else str(seconds)
