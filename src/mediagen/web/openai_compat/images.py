"""``/v1/images``: pictures, in the shapes that OpenAI's clients send and read."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from mediagen.core.errors import (
    ContentRefused,
    InputUnavailable,
    InvalidBase64,
    InvalidRequest,
    OutcomeUnknown,
    ProviderError,
    ProviderRateLimited,
    QueueFull,
    StorageFull,
    StorageUnavailable,
    TooLarge,
    UnknownModel,
    UnsupportedMedia,
    UrlNotAllowed,
)
from mediagen.core.tasks import Task
from mediagen.pipelines.derive import derive
from mediagen.pipelines.images import ImageSpec, build_image_request
from mediagen.providers.base import Making
from mediagen.providers.registry import Providers
from mediagen.web.api.routing import Answer, Call, Empty, Reply, route, validate
from mediagen.web.api.schemas import TaskView
from mediagen.web.api.views import Views
from mediagen.web.api.webhook_targets import WebhookTargets
from mediagen.web.http.path_aliases import DEPLOYMENT
from mediagen.web.http.problems import BodyStalled
from mediagen.web.openai_compat.image_responses import ImageResponses
from mediagen.web.openai_compat.image_schemas import ImageEditRequest, ImageGenerateRequest, ImagesResponse
from mediagen.web.openai_compat.media_inputs import BodyParser, InputField, ParsedBody
from mediagen.web.openai_compat.submission import TaskSubmitter, extras
from mediagen.web.tasks.routes import TASK_HEADER, task_answer

_INPUT_FIELDS: Final = (
    InputField("image", "image", most=16),
    InputField("images", "image", most=16),
    InputField("mask", "mask"),
)
_FAILS: Final = (
    UnknownModel,
    UrlNotAllowed,
    ContentRefused,
    QueueFull,
    ProviderError,
    ProviderRateLimited,
    OutcomeUnknown,
    StorageUnavailable,
)
_LATER: Final = Reply(
    HTTPStatus.ACCEPTED, "the task that makes the images", TaskView, gives=("Location", "Retry-After", TASK_HEADER)
)


class ImageRoutes:
    """``/v1/images``."""

    def __init__(
        self,
        submitter: TaskSubmitter,
        providers: Providers,
        bodies: BodyParser,
        answers: ImageResponses,
        views: Views,
        targets: WebhookTargets,
    ) -> None:
        self._submitter = submitter
        self._providers = providers
        self._bodies = bodies
        self._answers = answers
        self._views = views
        self._targets = targets

    @route(
        "POST",
        "/v1/images/generations",
        "Create images; with `Prefer: respond-async`, as a task",
        body=ImageGenerateRequest,
        answer=ImagesResponse,
        fails=_FAILS,
        takes=("Idempotency-Key", "Prefer"),
        gives=(TASK_HEADER,),
        also=(_LATER,),
    )
    async def generate_images(self, call: Call[Empty, ImageGenerateRequest]) -> Answer | web.StreamResponse:
        return await self.generated(call)

    async def generated(self, call: Call[Empty, ImageGenerateRequest]) -> Answer | web.StreamResponse:
        """The pictures, once they are in the store."""
        body = _with_model(call, call.body)
        task = await self._submit(call, body)
        return await self._answer(call, body, task, "image_generation")

    @route(
        "POST",
        "/v1/images/generations/async",
        "Create images as a task",
        body=ImageGenerateRequest,
        answer=TaskView,
        status=HTTPStatus.ACCEPTED,
        fails=_FAILS,
        takes=("Idempotency-Key",),
        gives=("Location", "Retry-After", TASK_HEADER),
    )
    async def generate_images_later(self, call: Call[Empty, ImageGenerateRequest]) -> Answer:
        """The queued task."""
        return await self._accepted(call, await self._submit(call, _with_model(call, call.body)))

    @route(
        "POST",
        "/v1/images/edits",
        "Edit images, or create new ones from them; takes a form or JSON",
        body=ImageEditRequest,
        answer=ImagesResponse,
        fails=(
            *_FAILS,
            UnsupportedMedia,
            TooLarge,
            BodyStalled,
            InvalidBase64,
            InputUnavailable,
            StorageFull,
        ),
        streamed=True,
        takes=("Idempotency-Key", "Prefer"),
        gives=(TASK_HEADER,),
        also=(_LATER,),
    )
    async def edit_images(self, call: Call[Empty, ImageEditRequest]) -> Answer | web.StreamResponse:
        """The edited pictures, once they are in the store."""
        async with self._bodies.taken(call, _INPUT_FIELDS) as taken:
            body = _with_model(call, validate(ImageEditRequest, taken.fields))
            task = await self._submit(call, body, taken)
        return await self._answer(call, body, task, "image_edit")

    async def _submit(self, call: Call[Any, Any], body: ImageGenerateRequest, taken: ParsedBody | None = None) -> Task:
        """The task. Raises InvalidRequest, UnknownModel, QueueFull: what cannot be made is refused before it is one."""
        partial = body.partial_images if body.stream and body.partial_images else None
        spec = derive(ImageSpec, body, extra=extras(body), partial_images=partial)
        if taken is not None and "image" not in taken.roles:
            raise InvalidRequest("image is missing: give one or more images to edit", param="image")
        build_image_request(spec, self._providers, [] if taken is None else taken.roles)
        if taken is not None:
            spec = spec.model_copy(update={"inputs": await taken.inputs()})
        return await self._submitter.submit(
            "image",
            spec,
            call.request,
            call.caller,
            priority=body.priority,
            timeout_seconds=body.timeout_seconds,
            webhook=self._targets.of(body, call.base),
            request_inputs=None if taken is None else taken.request_inputs,
        )

    async def _answer(
        self, call: Call[Any, Any], body: ImageGenerateRequest, task: Task, event: str
    ) -> Answer | web.StreamResponse:
        if "respond-async" in call.request.headers.get("Prefer", "").lower():
            return await self._accepted(call, task)
        if body.stream:
            return await self._answers.streamed(call, body, task, event)
        if body.response_format is None:
            usual = self._providers.offer(body.model, Making.IMAGE).response_format
            body = body.model_copy(update={"response_format": None if usual == "both" else usual})
        return await self._answers.whole(call, body, task)

    async def _accepted(self, call: Call[Any, Any], task: Task) -> Answer:
        view = await self._views.task(task, call.base)
        answer = task_answer(task, view, status=HTTPStatus.ACCEPTED)
        location = self._views.path(f"/v1/tasks/{task.id}")
        return Answer(view, HTTPStatus.ACCEPTED, {**answer.headers, "Location": location})


def _with_model(call: Call[Any, Any], body: ImageGenerateRequest) -> ImageGenerateRequest:
    """The body; its model is the deployment that the path names, unless it names one itself."""
    deployment = call.request.match_info.get(DEPLOYMENT)
    return body if body.model or deployment is None else body.model_copy(update={"model": deployment})
