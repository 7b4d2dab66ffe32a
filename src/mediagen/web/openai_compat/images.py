"""``/v1/images``, as OpenAI's clients use it."""

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
from mediagen.web.openai_compat.submission import TaskSubmitter, extra_fields
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
        body_parser: BodyParser,
        responses: ImageResponses,
        views: Views,
        targets: WebhookTargets,
    ) -> None:
        self._submitter = submitter
        self._providers = providers
        self._body_parser = body_parser
        self._responses = responses
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
        return await self.generate(call)

    async def generate(self, call: Call[Empty, ImageGenerateRequest]) -> Answer | web.StreamResponse:
        """Respond once the images are stored."""
        body = _with_model(call, call.body)
        task = await self._submit(call, body)
        return await self._respond(call, body, task, "image_generation")

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
        return await self._respond_accepted(call, await self._submit(call, _with_model(call, call.body)))

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
        """Respond once the edited images are stored."""
        async with self._body_parser.parse(call, _INPUT_FIELDS) as parsed:
            body = _with_model(call, validate(ImageEditRequest, parsed.fields))
            task = await self._submit(call, body, parsed)
        return await self._respond(call, body, task, "image_edit")

    async def _submit(self, call: Call[Any, Any], body: ImageGenerateRequest, parsed: ParsedBody | None = None) -> Task:
        """The new task. Raises InvalidRequest, UnknownModel, QueueFull: what cannot be made does not become a task."""
        partial = body.partial_images if body.stream and body.partial_images else None
        spec = derive(ImageSpec, body, extra=extra_fields(body), partial_images=partial)
        if parsed is not None and "image" not in parsed.roles:
            raise InvalidRequest("image is missing: give one or more images to edit", param="image")
        build_image_request(spec, self._providers, [] if parsed is None else parsed.roles)
        if parsed is not None:
            spec = spec.model_copy(update={"inputs": await parsed.resolve_inputs()})
        return await self._submitter.submit(
            "image",
            spec,
            call.request,
            call.caller,
            priority=body.priority,
            timeout_seconds=body.timeout_seconds,
            webhook=self._targets.of(body, call.base),
            request_inputs=None if parsed is None else parsed.inputs,
        )

    async def _respond(
        self, call: Call[Any, Any], body: ImageGenerateRequest, task: Task, event: str
    ) -> Answer | web.StreamResponse:
        if "respond-async" in call.request.headers.get("Prefer", "").lower():
            return await self._respond_accepted(call, task)
        if body.stream:
            return await self._responses.stream(call, body, task, event)
        if body.response_format is None:
            usual = self._providers.offer(body.model, Making.IMAGE).response_format
            body = body.model_copy(update={"response_format": None if usual == "both" else usual})
        return await self._responses.respond(call, body, task)

    async def _respond_accepted(self, call: Call[Any, Any], task: Task) -> Answer:
        view = await self._views.task(task, call.base)
        answer = task_answer(task, view, status=HTTPStatus.ACCEPTED)
        location = self._views.path(f"/v1/tasks/{task.id}")
        return Answer(view, HTTPStatus.ACCEPTED, {**answer.headers, "Location": location})


def _with_model(call: Call[Any, Any], body: ImageGenerateRequest) -> ImageGenerateRequest:
    """The body with the deployment of the path as its model, unless it names a model."""
    deployment = call.request.match_info.get(DEPLOYMENT)
    return body if body.model or deployment is None else body.model_copy(update={"model": deployment})
