"""OpenAI, and every server that speaks its API; which one decides small things (``Engine``).

Pictures: ``POST /images/generations`` (JSON), ``/images/edits`` (form), answered with base64 or URLs, or as a stream of
events. Films: ``POST /videos``, ``GET /videos/{id}``, ``/videos/{id}/content``, ``/videos/{id}/remix``.
Source: OpenAI API reference, images and videos, as read on 2026-11-20; the engines by their own servers' code.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mediagen.core.errors import InvalidRequest, OutcomeUnknown, ProviderError
from mediagen.providers.base import (
    About,
    Answer,
    Content,
    ImageAbilities,
    ImageRequest,
    Made,
    Making,
    Model,
    Operation,
    Phase,
    Request,
    Status,
    Usage,
    VideoAbilities,
    VideoRequest,
)
from mediagen.providers.bodies import Body, InBase64, form_body, json_body
from mediagen.providers.endpoint import Reply, quoted
from mediagen.providers.events import Events
from mediagen.providers.faults import Complaint, failure, said_in
from mediagen.providers.foreign import plain
from mediagen.providers.spending import amount_of
from mediagen.providers.vendor import Vendor
from mediagen.providers.words import percent_of
from mediagen.streams.embedded_many import EmbeddedField, EmbeddedFields
from mediagen.streams.sources import ChunkSource

_B64: Final = ("data", "*", "b64_json")
_URL: Final = ("data", "*", "url")
_ECHOED: Final = ("created", "background", "output_format", "quality", "size")


@dataclass(frozen=True, slots=True)
class Quirks:
    """How an engine differs. ``response_format`` None: the word is not sent."""

    response_format: str | None = None
    images: bool = True
    max_n: int = 10
    edits: bool = True
    streams: bool = False
    videos: bool = True
    videos_as_form: bool = False
    """Films are asked for by a form even without a file."""
    seed_field: bool = False
    """``seed``, ``negative_prompt`` and ``fps`` are fields of their own."""
    remix: bool = False
    stops: bool = False
    """Deleting a film stops the work on it."""


QUIRKS: Final[Mapping[str, Quirks]] = {
    "openai": Quirks(streams=True, videos_as_form=True, remix=True),
    "localai": Quirks(response_format="b64_json", edits=False, videos=False, seed_field=True),
    "sdcpp": Quirks(videos=False, seed_field=True),
    "vllm-omni": Quirks(response_format="b64_json", videos_as_form=True, seed_field=True, stops=True),
    "sglang": Quirks(response_format="b64_json", seed_field=True),
    "generic": Quirks(seed_field=True, remix=True, stops=True),
}


class OpenAI(Vendor):
    """Fits ``MakesImages`` and ``RunsOperations``."""

    base_url: ClassVar[str] = "https://api.openai.com/v1"

    @property
    def _quirks(self) -> Quirks:
        return QUIRKS[self._settings.engine]

    def _known(self) -> tuple[Model, ...]:
        names = {"openai": ("gpt-image-1.5", "gpt-image-1-mini"), "sdcpp": ("sd-cpp-local",)}
        return tuple(self._unknown(name) for name in names.get(self._settings.engine, ()))

    def _unknown(self, name: str) -> Model:
        quirks = self._quirks
        images = ImageAbilities(
            max_n=quirks.max_n, max_inputs=16 if quirks.edits else 0, masks=quirks.edits, partial_images=quirks.streams
        )
        videos = VideoAbilities(
            inputs=frozenset({"first_frame"}), remix=quirks.remix, cancel=quirks.stops, percent=True
        )
        if self._settings.engine == "openai":  # its names say what they make
            is_film = name.startswith("sora")
            return Model(name, images=None if is_film else images, videos=videos if is_film else None)
        return Model(name, images=images if quirks.images else None, videos=videos if quirks.videos else None)

    def _prepared(self, request: Request) -> Body:
        if isinstance(request, VideoRequest):
            return self._video_body(request)
        return self._image_body(request, streams=False)

    # -- pictures

    @asynccontextmanager
    async def generate(self, request: ImageRequest, /) -> AsyncIterator[Answer]:
        streams = request.partial_images is not None and self._quirks.streams
        path = "/images/edits" if request.inputs else "/images/generations"
        accept = {"Accept": "text/event-stream, application/json"} if streams else {}
        async with self._endpoint.open(
            "POST", path, self._image_body(request, streams=streams), paid=True, headers=accept
        ) as reply:
            if reply.media_type == "text/event-stream":
                about = About()
                async with aclosing(self._streamed(reply, about)) as results:
                    yield Answer(results, about)
            else:
                async with self._answer(reply, self._read_images, media=[_B64], links=[_URL], one_each=True) as answer:
                    yield answer

    def _image_body(self, request: ImageRequest, *, streams: bool) -> Body:
        quirks = self._quirks
        fields: dict[str, Any] = {
            "model": request.model,
            "prompt": request.prompt,
            "n": request.n,
            "size": str(request.size) if request.size else None,
            "quality": request.quality,
            "background": request.background,
            "output_format": request.output_format,
            "output_compression": request.output_compression,
            "moderation": request.moderation,
            "style": request.style,
            "user": request.user,
            "response_format": quirks.response_format,
        }
        if quirks.seed_field:
            fields |= {"seed": request.seed, "negative_prompt": request.negative_prompt}
        if streams:
            fields |= {"stream": True, "partial_images": request.partial_images}
        fields = {**{name: value for name, value in fields.items() if value is not None}, **request.extra}
        if not request.inputs:
            return json_body(fields)
        pictures = [each for each in request.inputs if each.role != "mask"]
        name = "image" if len(pictures) == 1 else "image[]"
        files = [("mask" if each.role == "mask" else name, each) for each in request.inputs]
        return form_body(fields, files)

    def _read_images(self, document: Any, about: About, found: int) -> None:
        if not isinstance(document, dict):
            raise ProviderError(f"{self.name} answered something else than a JSON object")
        if found == 0:
            if document.get("error") or document.get("detail"):
                raise failure(self.name, said_in(document))
            raise ProviderError(f"{self.name} answered without a picture")
        about.reported.update({name: document[name] for name in _ECHOED if document.get(name) is not None})
        about.usage = _usage(document)
        items = document.get("data")
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if isinstance(item, dict) and isinstance(prompt := item.get("revised_prompt"), str):
                about.revised_prompts[index] = prompt

    async def _streamed(self, reply: Reply, about: About) -> AsyncGenerator[Made]:
        """``image_generation.partial_image`` and ``.completed`` events (``image_edit.`` of edits)."""
        done = shown = 0
        events = Events(reply.chunks()).events()
        try:
            async for event in events:
                fields = EmbeddedFields(event.data, [("b64_json",)])
                try:
                    places = fields.fields()
                    field = await self._next(places)
                    if field is None:
                        self._refuse_event(plain(fields.document))
                        continue
                    is_partial = "partial_image" in event.name or b"partial_image" in fields.rest
                    # counted: the event's own index stands behind the picture
                    yield Content(ChunkSource(self._decoded(field)), done, shown if is_partial else None)
                    await self._next(places)
                    if is_partial:
                        shown += 1
                    else:
                        done, shown = done + 1, 0
                        self._read_event(plain(fields.document), about)
                finally:
                    await fields.aclose()
        finally:
            await events.aclose()
        if done == 0:
            raise OutcomeUnknown(f"the stream of {self.name} ended before the picture; it may have charged for it")

    async def _next(self, places: AsyncIterator[EmbeddedField]) -> EmbeddedField | None:
        with self._understood():
            return await anext(places, None)

    def _read_event(self, document: Mapping[str, Any], about: About) -> None:
        about.usage = _usage(document) or about.usage
        about.reported.update({name: document[name] for name in _ECHOED if document.get(name) is not None})

    def _refuse_event(self, document: Any) -> None:
        if isinstance(document, dict) and (document.get("error") or document.get("type") == "error"):
            raise failure(self.name, said_in(document))

    # -- films

    async def submit(self, request: Request, /) -> Operation:
        if isinstance(request, ImageRequest):
            raise InvalidRequest(f"{request.model} makes pictures in one call")
        path = f"/videos/{quoted(request.remix_of)}/remix" if request.remix_of else "/videos"
        async with self._endpoint.open("POST", path, self._video_body(request), paid=True) as reply:
            document = await reply.document()
        job_id = (document.get("id") or document.get("task_id")) if isinstance(document, dict) else None
        if not isinstance(job_id, str) or not job_id:
            if isinstance(document, dict) and document.get("error"):
                raise failure(self.name, said_in(document))
            raise OutcomeUnknown(f"{self.name} took the film on, but named no id for it", provider=self.name)
        return Operation(self.name, request.model, Making.VIDEO, job_id)

    def _video_body(self, request: VideoRequest) -> Body:
        quirks = self._quirks
        if request.remix_of:
            return json_body({"prompt": request.prompt, **request.extra})
        fields: dict[str, Any] = {
            "model": request.model,
            "prompt": request.prompt,
            "seconds": f"{request.seconds:g}" if request.seconds is not None else None,
            "size": str(request.size) if request.size else None,
        }
        if quirks.seed_field:
            fields |= {"seed": request.seed, "negative_prompt": request.negative_prompt, "fps": request.fps}
        fields = {**{name: value for name, value in fields.items() if value is not None}, **request.extra}
        first = next((each for each in request.inputs if each.role in ("first_frame", "reference", "image")), None)
        if first is not None and self._settings.engine == "generic":
            return json_body({**fields, "input_reference": {"image_url": InBase64(first)}})
        if first is not None or quirks.videos_as_form:
            return form_body(fields, [("input_reference", first)] if first else [])
        return json_body(fields)

    async def poll(self, operation: Operation, /) -> Status:
        async with self._endpoint.open("GET", f"/videos/{quoted(operation.id)}") as reply:
            document = await reply.document()
            after = reply.headers.get("openai-poll-after-ms", "")
        if not isinstance(document, dict):
            raise ProviderError(f"{self.name} answered something else than a JSON object")
        phase = self._words.phase(document.get("status"))
        error = None
        if phase is Phase.FAILED:
            said = said_in(document) if document.get("error") else Complaint(f"status {document.get('status')}")
            error = failure(self.name, said, operation=operation.id)
        return Status(
            phase,
            self._with_url(operation, document),
            percent=percent_of(document.get("progress")) if phase is Phase.RUNNING else None,
            queue_position=_whole(document.get("queue_position")),
            poll_after=int(after) / 1000 if after.isascii() and after.isdigit() else None,
            error=error,
            usage=_usage(document) if phase in (Phase.COMPLETED, Phase.FAILED) else None,
        )

    def _with_url(self, operation: Operation, document: Mapping[str, Any]) -> Operation:
        """Gateways give a URL where OpenAI has ``/content`` alone."""
        metadata, several = document.get("metadata"), document.get("unsigned_urls") or document.get("urls")
        url = document.get("url") or (metadata.get("url") if isinstance(metadata, dict) else None)
        if not url and isinstance(several, list) and several:
            url = several[0]
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            return operation
        return Operation(operation.provider, operation.model, operation.making, operation.id, {"url": url})

    @asynccontextmanager
    async def fetch(self, operation: Operation, /) -> AsyncIterator[Answer]:
        if operation.state.get("url"):
            status = await self.poll(operation)  # the one that was saved may have expired
            url = str(status.operation.state.get("url") or operation.state["url"])
        else:
            url = str(self._endpoint.url(f"/videos/{quoted(operation.id)}/content"))
        yield self._one_link(url, About(), media_type="video/mp4")

    async def cancel(self, operation: Operation, /) -> bool:
        """There is no such call; of an engine that stops a film that is deleted, it is deleted."""
        if not self._quirks.stops:
            return False
        await self._endpoint.call("DELETE", f"/videos/{quoted(operation.id)}")
        return True


def _usage(document: Mapping[str, Any]) -> Usage | None:
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return None
    return Usage(usage, amount_of(usage.get("cost", usage.get("estimated_cost"))))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
