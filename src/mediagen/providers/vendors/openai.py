"""OpenAI, and every server that speaks its API; which one decides small things (``Engine``).

Pictures: ``POST /images/generations`` (JSON), ``/images/edits`` (form), answered with base64 or URLs, or as a stream of
events. Films: ``POST /videos``, ``GET /videos/{id}``, ``/videos/{id}/content``, ``/videos/{id}/remix``.
Source: OpenAI API reference, images and videos, as read on 2026-11-20; the engines by their own servers' code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import structlog

from mediagen.core.errors import InvalidRequest, MediagenError, OutcomeUnknown, ProviderError
from mediagen.providers.base import (
    About,
    Answer,
    ImageAbilities,
    ImageRequest,
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
from mediagen.providers.calls.endpoint import quoted
from mediagen.providers.calls.error_bodies import reasons_in, said_in
from mediagen.providers.calls.lenient_json import as_id, as_list, as_object, as_text, as_whole
from mediagen.providers.calls.refusals import failure, nothing_made
from mediagen.providers.calls.request_bodies import Body, InBase64, form_body, json_body
from mediagen.providers.calls.spending import amount_of
from mediagen.providers.vendors.image_stream import PictureStream
from mediagen.providers.vendors.status_words import percent_of
from mediagen.providers.vendors.vendor import Vendor
from mediagen.streams.json.scanner import Pointer

log = structlog.get_logger(__name__)

_B64: Final = ("data", "*", "b64_json")
_URL: Final = ("data", "*", "url")
_ECHOED: Final = ("background", "output_format", "quality", "size")
_LONGEST_PAUSE: Final = 60.0
"""Seconds between two looks at a job, whatever the provider says."""


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

    def _prepared(self, request: Request) -> dict[str, Any]:
        return self._video_fields(request) if isinstance(request, VideoRequest) else self._image_fields(request)

    # -- pictures

    @asynccontextmanager
    async def generate(self, request: ImageRequest, /) -> AsyncIterator[Answer]:
        streams = request.partial_images is not None and self._quirks.streams
        path = "/images/edits" if request.inputs else "/images/generations"
        accept = {"Accept": "text/event-stream, application/json"} if streams else {}
        async with self._endpoint.open(
            "POST", path, self._image_body(request, streams=streams), paid=True, headers=accept
        ) as reply:
            if await reply.is_stream_of_events():
                about = About()
                stream = PictureStream(self.name, self._made, self._read_about)
                async with aclosing(stream.results(reply.chunks(), about, request.n)) as results:
                    yield Answer(results, about)
            else:
                async with self._answer(reply, self._read_images, media=[_B64], links=[_URL], one_each=True) as answer:
                    yield answer

    def _image_body(self, request: ImageRequest, *, streams: bool) -> Body:
        fields = self._image_fields(request)
        if streams:
            fields = {"stream": True, "partial_images": request.partial_images, **fields}
        if not request.inputs:
            return json_body(fields)
        pictures = [each for each in request.inputs if each.role != "mask"]
        name = "image" if len(pictures) == 1 else "image[]"
        files = [("mask" if each.role == "mask" else name, each) for each in request.inputs]
        return form_body(fields, files)

    def _image_fields(self, request: ImageRequest) -> dict[str, Any]:
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
        return {**{name: value for name, value in fields.items() if value is not None}, **request.extra}

    def _read_images(self, document: Any, about: About, found: Sequence[Pointer]) -> None:
        if not isinstance(document, dict):
            raise ProviderError(f"{self.name} did not respond with a JSON object")
        if not found:
            raise self._without_picture(document)
        self._read_about(document, about)
        numbers = [int(place[1]) for place in found if place[1].isdigit()]
        items = as_list(document.get("data"))
        for index, number in enumerate(numbers):
            if number < len(items) and (prompt := as_text(as_object(items[number]).get("revised_prompt"))):
                about.revised_prompts[index] = prompt

    def _without_picture(self, document: dict[str, Any]) -> MediagenError:
        """Why an answer has no picture, as far as it says."""
        if document.get("error") or document.get("detail"):
            return failure(self.name, said_in(document))
        return nothing_made(self.name, "a picture", reasons_in(document))

    def _read_about(self, document: Mapping[str, Any], about: About) -> None:
        about.usage = _usage(document) or about.usage
        about.reported.update({name: text for name in _ECHOED if (text := as_text(document.get(name)))})

    # -- films

    async def submit(self, request: Request, /) -> Operation:
        if isinstance(request, ImageRequest):
            raise InvalidRequest(f"{request.model} makes images in one call")
        path = f"/videos/{quoted(request.remix_of)}/remix" if request.remix_of else "/videos"
        async with self._endpoint.open("POST", path, self._video_body(request), paid=True) as reply:
            document = await reply.document()
        job = _job_in(as_object(document))
        job_id = as_id(job.get("id")) or as_id(job.get("task_id"))
        if job_id is None:
            if as_object(document).get("error"):
                raise failure(self.name, said_in(document))
            raise OutcomeUnknown(f"{self.name} accepted the job but returned no id", provider=self.name)
        return Operation(self.name, request.model, Making.VIDEO, job_id)

    def _video_body(self, request: VideoRequest) -> Body:
        fields = self._video_fields(request)
        if request.remix_of:
            return json_body(fields)
        first = next(iter(request.inputs), None)
        if first is not None and self._settings.engine == "generic":
            return json_body({**fields, "input_reference": {"image_url": InBase64(first)}})
        if first is not None or self._quirks.videos_as_form:
            return form_body(fields, [("input_reference", first)] if first else [])
        return json_body(fields)

    def _video_fields(self, request: VideoRequest) -> dict[str, Any]:
        if request.remix_of:
            return {"prompt": request.prompt, **request.extra}
        fields: dict[str, Any] = {
            "model": request.model,
            "prompt": request.prompt,
            "seconds": f"{request.seconds:g}" if request.seconds is not None else None,
            "size": str(request.size) if request.size else None,
        }
        if self._quirks.seed_field:
            fields |= {"seed": request.seed, "negative_prompt": request.negative_prompt, "fps": request.fps}
        return {**{name: value for name, value in fields.items() if value is not None}, **request.extra}

    async def poll(self, operation: Operation, /) -> Status:
        async with self._endpoint.open("GET", f"/videos/{quoted(operation.id)}") as reply:
            document = await reply.document()
            after = reply.headers.get("openai-poll-after-ms", "")
        if not isinstance(document, dict):
            raise self._endpoint.no_object(paid=False)
        job = _job_in(document)
        phase = self._phase_of(job, job.get("status"))
        return Status(
            phase,
            self._with_url(operation, job),
            percent=percent_of(job.get("progress")) if phase is Phase.RUNNING else None,
            queue_position=as_whole(job.get("queue_position")),
            poll_after=min(int(after[:9]) / 1000, _LONGEST_PAUSE) if after.isascii() and after.isdigit() else None,
            error=self._failed(job, operation=operation.id) if phase is Phase.FAILED else None,
            usage=_usage(job) if phase in (Phase.COMPLETED, Phase.FAILED) else None,
        )

    def _with_url(self, operation: Operation, job: Mapping[str, Any]) -> Operation:
        """Gateways give a URL where OpenAI has ``/content`` alone; one that cannot be fetched is none."""
        several = as_list(job.get("unsigned_urls")) or as_list(job.get("urls"))
        for url in (job.get("url"), as_object(job.get("metadata")).get("url"), *several[:1]):
            if isinstance(url, str) and url.strip().lower().startswith(("http://", "https://")):
                try:
                    self._link(url, 0)
                except ProviderError as exc:
                    log.warning("result_link_unusable", provider=self.name, reason=exc.detail)
                    continue
                return replace(operation, state={"url": url})
        return operation

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


def _job_in(document: dict[str, Any]) -> dict[str, Any]:
    """The job in an answer; some gateways put it into ``data``."""
    inner = as_object(document.get("data"))
    return inner if "status" not in document and "id" not in document and inner else document
