"""``/v1/images``: pictures, in the shapes that OpenAI's clients send and read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, Literal

from aiohttp import web
from pydantic import ConfigDict, Field

from mediagen.core.errors import (
    ContentRefused,
    MediagenError,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderRateLimited,
    QueueFull,
    StorageUnavailable,
    UnknownModel,
    UrlNotAllowed,
)
from mediagen.core.files import File
from mediagen.core.tasks import Task, TaskStatus
from mediagen.pipelines.images import ImageSpec, asked_for
from mediagen.providers.registry import Providers
from mediagen.storage.base import Storage
from mediagen.tasks.ports import Files
from mediagen.web import encoded
from mediagen.web.generations import Generations, extras, failure_of
from mediagen.web.origins import Origins
from mediagen.web.problems import openai_error
from mediagen.web.routing import Answer, Call, Empty, Reply, route, validate
from mediagen.web.schemas import Priority, Said, TaskView
from mediagen.web.tasks import task_answer
from mediagen.web.views import Views
from mediagen.web.webhooks import Notified, WebhookTargets

HEARTBEAT_SECONDS = 10.0
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


class ImageCreate(Notified):
    """What OpenAI's clients send, and what other providers take beside it. Null is as the provider likes best."""

    model_config = ConfigDict(extra="allow", frozen=True)

    prompt: str = Field(min_length=1, max_length=32_000)
    model: str | None = Field(None, max_length=200, description="one of GET /v1/models; null: the first that makes one")
    n: int | None = Field(None, ge=1, le=10)
    size: str | None = Field(None, max_length=20, description="WIDTHxHEIGHT or auto")
    quality: str | None = Field(None, max_length=40)
    background: Literal["transparent", "opaque", "auto"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: int | None = Field(None, ge=0, le=100)
    style: str | None = Field(None, max_length=40)
    moderation: str | None = Field(None, max_length=40)
    user: str | None = Field(None, max_length=512)
    response_format: Literal["url", "b64_json"] | None = Field(None, description="null: url")
    stream: bool | None = Field(None, description="server-sent events: heartbeats, then each picture")
    partial_images: int | None = Field(None, ge=0, le=3)
    negative_prompt: str | None = Field(None, max_length=32_000)
    seed: int | None = None
    priority: Priority | None = None
    timeout_seconds: float | None = Field(None, gt=0, description="limit of one attempt")


class ImageData(Said):
    """A picture: where it is, or what it is."""

    url: str | None = None
    b64_json: str | None = None
    revised_prompt: str | None = None
    file_id: str


class ImagesAnswer(Said):
    """Pictures."""

    created: int
    data: list[ImageData]
    model: str
    task_id: str
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None
    usage: dict[str, Any] | None = None
    cost_usd: float | None = Field(None, description="as the provider says; null: it does not")


class ImageRoutes:
    """``/v1/images``."""

    def __init__(
        self,
        generations: Generations,
        providers: Providers,
        files: Files,
        storage: Storage,
        views: Views,
        origins: Origins,
        targets: WebhookTargets,
    ) -> None:
        self._targets = targets
        self._generations = generations
        self._providers = providers
        self._files = files
        self._storage = storage
        self._views = views
        self._origins = origins

    @route(
        "POST",
        "/v1/images/generations",
        "Make pictures; with Prefer: respond-async as a task",
        body=ImageCreate,
        answer=ImagesAnswer,
        fails=_FAILS,
        takes=("Idempotency-Key", "Prefer"),
        also=(Reply(HTTPStatus.ACCEPTED, "the task that makes them", TaskView, gives=("Location", "Retry-After")),),
    )
    async def generate_images(self, call: Call[Empty, ImageCreate]) -> Answer | web.StreamResponse:
        return await self.generated(call)

    async def generated(self, call: Call[Empty, ImageCreate]) -> Answer | web.StreamResponse:
        """The pictures, once they are in the store."""
        task = await self._submit(call)
        if "respond-async" in call.request.headers.get("Prefer", "").lower():
            return await self._accepted(call, task)
        if call.body.stream:
            return await self._streamed(call, task)
        task = await self._generations.ended(task, call.caller)
        if task.status is not TaskStatus.COMPLETED:
            raise failure_of(task)
        files = await self._made(task)
        document = self._document(call, task, files)
        headers = {"x-mediagen-task": task.id}
        if call.body.response_format == "b64_json":
            return await encoded.respond(call.request, document, files, self._storage, headers)
        return Answer(ImagesAnswer(**document), headers=headers)

    @route(
        "POST",
        "/v1/images/generations/async",
        "Make pictures as a task",
        body=ImageCreate,
        answer=TaskView,
        status=HTTPStatus.ACCEPTED,
        fails=_FAILS,
        takes=("Idempotency-Key",),
        gives=("Location", "Retry-After"),
    )
    async def generate_images_later(self, call: Call[Empty, ImageCreate]) -> Answer:
        """The queued task."""
        return await self._accepted(call, await self._submit(call))

    async def _submit(self, call: Call[Empty, ImageCreate]) -> Task:
        body = call.body
        known = body.model_dump(
            include=set(ImageSpec.model_fields) & set(ImageCreate.model_fields), exclude_none=True, mode="json"
        )
        spec = validate(ImageSpec, {**known, "extra": extras(body)})
        asked_for(spec, self._providers)  # what cannot be made is refused before it is a task
        return await self._generations.submit(
            "image",
            spec,
            call.request,
            call.caller,
            priority=body.priority,
            timeout_seconds=body.timeout_seconds,
            webhook=self._targets.of(body, call.request),
        )

    async def _accepted(self, call: Call[Empty, ImageCreate], task: Task) -> Answer:
        view = await self._views.task(task, self._origins.base(call.request))
        answer = task_answer(task, view, status=HTTPStatus.ACCEPTED)
        location = self._views.path(f"/v1/tasks/{task.id}")
        return Answer(view, HTTPStatus.ACCEPTED, {**answer.headers, "Location": location})

    async def _made(self, task: Task) -> list[File]:
        """The files of a completed task. Raises NotFound: one was deleted meanwhile."""
        files = [await self._files.get(file_id) for file_id in (task.result or {}).get("files", ())]
        if None in files:
            raise NotFound("a picture of this task was deleted", task_id=task.id)
        return [file for file in files if file is not None]

    def _document(self, call: Call[Empty, ImageCreate], task: Task, files: Sequence[File]) -> dict[str, Any]:
        """The answer, base64 standing as marks (``encoded``)."""
        result = task.result or {}
        reported = result.get("reported", {})
        base = self._origins.base(call.request)
        in_text = call.body.response_format == "b64_json"
        data = []
        for index, file in enumerate(files):
            view = self._views.file(file, base)
            picture = {"url": view.url, "file_id": file.id, "b64_json": encoded.mark(index) if in_text else None}
            data.append({**picture, "revised_prompt": result.get("revised_prompts", {}).get(str(index))})
        return {
            "created": int(task.created_at.timestamp()),
            "data": data,
            "model": result.get("model", ""),
            "task_id": task.id,
            "size": reported.get("size") or _size_of(files),
            "quality": reported.get("quality"),
            "background": reported.get("background"),
            "output_format": reported.get("output_format"),
            "usage": result.get("usage"),
            "cost_usd": result.get("cost_usd"),
        }

    async def _streamed(self, call: Call[Empty, ImageCreate], task: Task) -> web.StreamResponse:
        """Heartbeats as comments until the pictures are there, then an event for each; an error is an event too."""
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.headers["x-mediagen-task"] = task.id
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        await response.prepare(call.request)
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(self._generations.ended(task, call.caller))
            while not ending.done():
                await response.write(f": {task.id}\n\n".encode())
                await asyncio.wait({ending}, timeout=HEARTBEAT_SECONDS)
        ended = ending.result()
        try:
            if ended.status is not TaskStatus.COMPLETED:
                raise failure_of(ended)
            files = await self._made(ended)
        except MediagenError as exc:
            await response.write(f"event: error\ndata: {json.dumps(openai_error(exc))}\n\n".encode())
        else:
            for index, picture in enumerate(self._document(call, ended, files)["data"]):
                event = {
                    **{name: value for name, value in picture.items() if value is not None},
                    "type": "image_generation.completed",
                    "created_at": int(ended.created_at.timestamp()),
                    "b64_json": encoded.mark(index),
                    "usage": (ended.result or {}).get("usage"),
                }
                await response.write(b"event: image_generation.completed\ndata: ")
                await encoded.write(event, files, self._storage, response)
                await response.write(b"\n\n")
        await response.write_eof()
        return response


def _size_of(files: Sequence[File]) -> str | None:
    first = files[0] if files else None
    return f"{first.width}x{first.height}" if first is not None and first.width and first.height else None
