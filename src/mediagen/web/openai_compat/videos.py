"""``/v1/videos``, as OpenAI's clients use it, with cancel and retry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from mediagen.core.clock import utc_now
from mediagen.core.errors import (
    AttemptsExhausted,
    Conflict,
    ContentRefused,
    DeadlineExceeded,
    InputUnavailable,
    InvalidBase64,
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
from mediagen.core.tasks import Task, TaskQuery, TaskStatus
from mediagen.core.webhooks import VIDEO_EVENTS, Webhook
from mediagen.pipelines.derive import derive
from mediagen.pipelines.variants import Variants
from mediagen.pipelines.videos import VideoSpec, build_video_request
from mediagen.providers.registry import Providers
from mediagen.tasks.deletions import Deletions
from mediagen.tasks.service import TaskService
from mediagen.tasks.timing import poll_after_seconds
from mediagen.web.api.routing import Answer, Call, Empty, route, validate
from mediagen.web.api.webhook_targets import WebhookTargets
from mediagen.web.files.responses import CONDITIONAL_HEADERS, CONTENT_HEADERS, CONTENT_REPLIES, FileResponses
from mediagen.web.http.problems import BodyStalled, PreconditionFailed, RangeNotSatisfiable
from mediagen.web.openai_compat.media_inputs import BodyParser, InputField, ParsedBody
from mediagen.web.openai_compat.submission import TaskSubmitter, extra_fields
from mediagen.web.openai_compat.video_schemas import (
    STATUS,
    RemixRequest,
    VideoContentQuery,
    VideoCreateRequest,
    VideoDeleted,
    VideoListQuery,
    VideoPage,
    VideoView,
    task_id_of,
    video_id_of,
)
from mediagen.web.openai_compat.video_views import VideoViews
from mediagen.web.tasks.routes import TASK_HEADER

_INPUT_FIELDS: Final = (
    InputField("input_reference", "first_frame"),
    InputField("first_frame", "first_frame"),
    InputField("last_frame", "last_frame"),
)
_POLL_HEADER: Final = "openai-poll-after-ms"


class VideoRoutes:
    """``/v1/videos``."""

    def __init__(
        self,
        submitter: TaskSubmitter,
        service: TaskService,
        providers: Providers,
        body_parser: BodyParser,
        deletions: Deletions,
        content: FileResponses,
        views: VideoViews,
        targets: WebhookTargets,
        variants: Variants,
    ) -> None:
        self._targets = targets
        self._variants = variants
        self._submitter = submitter
        self._service = service
        self._providers = providers
        self._deletions = deletions
        self._content = content
        self._views = views
        self._body_parser = body_parser

    @route(
        "POST",
        "/v1/videos",
        "Create a video",
        body=VideoCreateRequest,
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
            InvalidBase64,
            InputUnavailable,
            StorageUnavailable,
            StorageFull,
        ),
        streamed=True,
        takes=("Idempotency-Key",),
        gives=(_POLL_HEADER, TASK_HEADER),
    )
    async def create_video(self, call: Call[Empty, VideoCreateRequest]) -> Answer:
        """The queued job."""
        async with self._body_parser.parse(call, _INPUT_FIELDS) as parsed:
            task = await self.create_task(call, parsed.fields, parsed)
        return await self._respond(call, task)

    async def create_task(
        self, call: Call[Any, Any], fields: Mapping[str, Any], parsed: ParsedBody | None = None
    ) -> Task:
        """Submit the task of a video with these fields. Raises InvalidRequest, and as ``TaskService.submit``."""
        body = validate(VideoCreateRequest, dict(fields))
        for slot in _INPUT_FIELDS:
            if getattr(body, slot.name) is not None:  # nobody has made a file of it
                raise InvalidRequest(f"this call takes no images, use POST /v1/videos: {slot.name}", field=slot.name)
        roles = [] if parsed is None else parsed.roles
        if len(set(roles)) < len(roles):
            raise InvalidRequest("give either input_reference or first_frame", field="input_reference")
        spec = derive(VideoSpec, body, seconds=body.seconds or body.duration, extra=extra_fields(body))
        webhook = self._targets.of(body, call.base, usual=VIDEO_EVENTS)
        return await self._submit(call, spec, body.priority, body.timeout_seconds, webhook, parsed)

    @route(
        "POST",
        "/v1/videos/{id}/remix",
        "Create a video from another (remix)",
        body=RemixRequest,
        answer=VideoView,
        fails=(NotFound, Conflict, UnknownModel, QueueFull, ProviderError),
        takes=("Idempotency-Key",),
        gives=(_POLL_HEADER, TASK_HEADER),
    )
    async def remix_video(self, call: Call[Empty, RemixRequest]) -> Answer:
        """The new, queued job."""
        first = await self._task(call)
        result = first.result or {}
        if first.status is not TaskStatus.COMPLETED or "operation" not in result:
            raise InvalidRequest("only a completed video can be remixed", field="id")
        was = VideoSpec(**first.request)
        spec = was.model_copy(
            update={
                "prompt": call.body.prompt,
                "inputs": (),
                "remix_of": result["operation"],
                "remixed_from": video_id_of(first),
            }
        )
        return await self._respond(call, await self._submit(call, spec, None, None, None, None))

    @route("GET", "/v1/videos", "List videos", query=VideoListQuery, answer=VideoPage)
    async def list_videos(self, call: Call[VideoListQuery, Empty]) -> VideoPage:
        query = call.query
        tasks, more = await self._service.query(
            TaskQuery(
                kind="video",
                limit=query.limit,
                after=None if query.after is None else task_id_of(query.after),
                descending=query.order == "desc",
                owner=call.caller.sees,
            )
        )
        data = [await self._views.view(task, call.base) for task in tasks]
        return VideoPage(
            data=data,
            has_more=more,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
        )

    @route(
        "GET",
        "/v1/videos/{id}",
        "Get a video or its job",
        answer=VideoView,
        fails=(NotFound,),
        gives=(_POLL_HEADER, TASK_HEADER),
    )
    async def get_video(self, call: Call[Empty, Empty]) -> Answer:
        return await self._respond(call, await self._task(call))

    @route(
        "GET|HEAD",
        "/v1/videos/{id}/content",
        "Get the bytes of a video, its thumbnail or its sprite sheet, whole or in ranges",
        query=VideoContentQuery,
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
        takes=CONDITIONAL_HEADERS,
        gives=CONTENT_HEADERS,
        also=CONTENT_REPLIES,
    )
    async def get_video_content(self, call: Call[VideoContentQuery, Empty]) -> web.StreamResponse:
        """404 until the video is made: OpenAI's clients would repeat a 409 by themselves.

        Thumbnail and spritesheet are made at the first request and kept with the video.
        """
        task = await self._task(call)
        file = await self._views.get_file(task)
        if file is None:
            raise NotFound(f"the video is not available: its job is {STATUS[task.status]}", field="id")
        if call.query.variant != "video":
            file = await self._variants.get_or_create(file, call.query.variant)
        return await self._content.respond(call.request, file, download=False)

    @route(
        "DELETE",
        "/v1/videos/{id}",
        "Delete a video and its job",
        answer=VideoDeleted,
        fails=(NotFound, StorageUnavailable),
    )
    async def delete_video(self, call: Call[Empty, Empty]) -> VideoDeleted:
        """A running job is cancelled first."""
        task = await self._task(call)
        if not task.ended:
            task = await self._service.cancel(task.id, owner=call.caller.sees)
        await self._deletions.delete_task(task, sees=call.caller.sees)
        return VideoDeleted(id=call.id)

    @route(
        "POST",
        "/v1/videos/{id}/cancel",
        "Cancel a video's job",
        answer=VideoView,
        fails=(NotFound, Conflict),
        gives=(TASK_HEADER,),
    )
    async def cancel_video(self, call: Call[Empty, Empty]) -> Answer:
        task = await self._task(call)
        return await self._respond(call, await self._service.cancel(task.id, owner=call.caller.sees))

    @route(
        "POST",
        "/v1/videos/{id}/retry",
        "Retry a video's ended job",
        answer=VideoView,
        fails=(NotFound, Conflict, AttemptsExhausted, QueueFull),
        gives=(_POLL_HEADER, TASK_HEADER),
    )
    async def retry_video(self, call: Call[Empty, Empty]) -> Answer:
        task = await self._task(call)
        return await self._respond(call, await self._service.retry(task.id, owner=call.caller.sees))

    async def _submit(
        self,
        call: Call[Any, Any],
        spec: VideoSpec,
        priority: int | None,
        timeout_seconds: float | None,
        webhook: Webhook | None,
        parsed: ParsedBody | None,
    ) -> Task:
        # checked before anything is fetched
        offer, _ = build_video_request(spec, self._providers, [] if parsed is None else parsed.roles)
        if parsed is not None:
            spec = spec.model_copy(update={"inputs": await parsed.resolve_inputs()})
        spec = spec.model_copy(update={"model": spec.model or offer.name})  # shown to a caller that named none
        return await self._submitter.submit(
            "video",
            spec,
            call.request,
            call.caller,
            priority=priority,
            timeout_seconds=timeout_seconds,
            webhook=webhook,
            request_inputs=None if parsed is None else parsed.inputs,
        )

    async def _task(self, call: Call[Any, Any]) -> Task:
        """The task of the video in the path. Raises NotFound."""
        try:
            task = await self._service.get(task_id_of(call.id), owner=call.caller.sees)
        except NotFound:
            task = None
        if task is None or task.kind != "video":
            raise NotFound(f"there is no video {call.id[:100]}", field="id")
        return task

    async def _respond(self, call: Call[Any, Any], task: Task) -> Answer:
        seconds = poll_after_seconds(task, utc_now())
        headers = {TASK_HEADER: task.id}
        if seconds is not None:
            headers[_POLL_HEADER] = str(int(seconds * 1000))
        return Answer(await self._views.view(task, call.base), headers=headers)
