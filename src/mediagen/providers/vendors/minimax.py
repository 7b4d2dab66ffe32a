"""MiniMax: pictures in one call, films by two generations of its API, told apart by the model's name.

v1 (Hailuo): create, query, then ask for the file's link. v2 (MiniMax-H3): create, query; the query has the link, a
fresh one each time. HTTP says 200 even to a refusal: ``base_resp.status_code`` counts. There is neither a percentage
nor a cancel.
Source: MiniMax API documentation, video and image generation, as read on 2026-11-20; codes also from its own examples.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, ClassVar, Final

from mediagen.core.errors import InvalidRequest, OutcomeUnknown, ProviderError, ProviderUnavailable
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
from mediagen.providers.calls.error_bodies import Complaint, reasons_in, said_in
from mediagen.providers.calls.lenient_json import as_id, as_object, as_whole
from mediagen.providers.calls.refusal_kinds import CODES, Meaning
from mediagen.providers.calls.refusals import failure, nothing_made
from mediagen.providers.calls.request_bodies import InBase64, json_body
from mediagen.providers.vendors.sizes import ratio_of, resolution_of, whole_seconds
from mediagen.providers.vendors.vendor import Vendor
from mediagen.streams.json.scanner import Pointer

_TIMED_OUT: Final = 1001
_V1_SIDES: Final = {512: "512P", 720: "720P", 768: "768P", 1080: "1080P"}
_V2_SIDES: Final = {768: "768P", 1440: "2K"}
_V2_RATIOS: Final = ("21:9", "16:9", "4:3", "1:1", "3:4", "9:16")
_V2_ROLES: Final = {"first_frame": "first_frame", "last_frame": "last_frame", "reference": "reference_image"}

_IMAGES: Final = ImageAbilities(max_n=9)
_V1: Final = VideoAbilities(seconds=(6, 10), inputs=frozenset({"first_frame", "last_frame"}))
_V2: Final = VideoAbilities(seconds=tuple(range(4, 16)), inputs=frozenset({"first_frame", "last_frame", "reference"}))


class MiniMax(Vendor):
    """Fits ``MakesImages`` and ``RunsOperations``. Its base URL has no version in it."""

    base_url: ClassVar[str] = "https://api.minimax.io"
    known: ClassVar[tuple[Model, ...]] = (
        Model("image-01", images=_IMAGES),
        Model("MiniMax-Hailuo-2.3", videos=_V1),
        Model("MiniMax-Hailuo-2.3-Fast", videos=_V1),
        Model("MiniMax-Hailuo-02", videos=_V1),
        Model("MiniMax-H3", videos=_V2),
    )

    def _unknown(self, name: str) -> Model:
        if name.startswith("image-"):
            return Model(name, images=_IMAGES)
        return Model(name, videos=_V2 if _is_v2(name) else _V1)

    def _prepared(self, request: Request) -> dict[str, Any]:
        if isinstance(request, VideoRequest):
            return _v2_body(request) if _is_v2(request.model) else _v1_body(request)
        fields = {
            "model": request.model,
            "prompt": request.prompt,
            "n": request.n,
            "response_format": "url",
            "seed": request.seed,
            "width": request.size.width if request.size else None,
            "height": request.size.height if request.size else None,
        }
        return _given(fields) | dict(request.extra)

    # -- pictures

    @asynccontextmanager
    async def generate(self, request: ImageRequest, /) -> AsyncIterator[Answer]:
        body = json_body(self._prepared(request))
        links = [("data", "image_urls", "*")]
        media = [("data", "image_base64", "*")]
        async with (
            self._endpoint.open("POST", "/v1/image_generation", body, paid=True) as reply,
            self._answer(reply, self._read_images, media=media, links=links) as answer,
        ):
            yield answer

    def _read_images(self, document: Any, about: About, found: Sequence[Pointer]) -> None:
        if not found:
            self._check(document, paid=True)
            raise nothing_made(self.name, "a picture", reasons_in(document))
        about.usage = Usage({"images": len(found)})

    # -- films

    async def submit(self, request: Request, /) -> Operation:
        if isinstance(request, ImageRequest):
            raise InvalidRequest(f"{request.model} makes images in one call")
        path = "/v2/video_generation" if _is_v2(request.model) else "/v1/video_generation"
        async with self._endpoint.open("POST", path, json_body(self._prepared(request)), paid=True) as reply:
            document = await reply.document()
        if isinstance(document, dict):
            self._check(document, paid=True)
        task_id = as_id(as_object(document).get("task_id"))
        if task_id is None:
            if as_object(document).get("error"):
                raise failure(self.name, _said_in(document))
            raise OutcomeUnknown(f"{self.name} accepted the job but returned no id", provider=self.name)
        return Operation(self.name, request.model, Making.VIDEO, task_id)

    async def poll(self, operation: Operation, /) -> Status:
        return await (self._poll_v2 if _is_v2(operation.model) else self._poll_v1)(operation)

    async def _poll_v1(self, operation: Operation) -> Status:
        path = "/v1/query/video_generation"
        document = await self._endpoint.call("GET", path, query={"task_id": operation.id})
        if self._words.phase(document.get("status")) is Phase.FAILED:
            return Status(Phase.FAILED, operation, error=self._failed(document))
        self._check(document)
        phase = self._phase_of(document, document.get("status"))
        if file_id := as_id(document.get("file_id")):
            operation = replace(operation, state={"file_id": file_id})
        return Status(phase, operation)

    async def _poll_v2(self, operation: Operation) -> Status:
        task = await self._task(operation)
        phase = self._phase_of(task, task.get("status"))
        error = self._failed({**task, "error": _with_number(task.get("error"))}) if phase is Phase.FAILED else None
        usage = task.get("usage")
        return Status(phase, operation, error=error, usage=Usage(usage) if isinstance(usage, dict) else None)

    async def _task(self, operation: Operation) -> dict[str, Any]:
        document = await self._endpoint.call("GET", f"/v2/query/video_generation/{quoted(operation.id)}")
        self._check(document)
        return as_object(document.get("task"))

    @asynccontextmanager
    async def fetch(self, operation: Operation, /) -> AsyncIterator[Answer]:
        if _is_v2(operation.model):
            url = as_object((await self._task(operation)).get("content")).get("url")
        else:
            file_id = operation.state.get("file_id")
            if not file_id:
                file_id = (await self._poll_v1(operation)).operation.state.get("file_id", "")
            document = await self._endpoint.call("GET", "/v1/files/retrieve", query={"file_id": str(file_id)})
            self._check(document)
            url = as_object(document.get("file")).get("download_url")
        if not isinstance(url, str) or not url:
            raise ProviderError(
                f"{self.name} has no video for {operation.id}", provider=self.name, status=HTTPStatus.NOT_FOUND
            )
        yield self._one_link(url, About(), media_type="video/mp4")

    async def cancel(self, operation: Operation, /) -> bool:
        """MiniMax has no such call."""
        return False

    def _check(self, document: Any, *, paid: bool = False) -> None:
        """Raise what ``base_resp`` says; v2 puts its refusals into HTTP, but may have it too."""
        if not isinstance(document, dict):
            raise self._endpoint.no_object(paid=paid)
        number = _number_in(document)
        if number is None:
            return
        said = said_in({"base_resp": document["base_resp"]})
        about: dict[str, Any] = {"provider": self.name, "vendor_code": number, "status": HTTPStatus.OK}
        if number == _TIMED_OUT and paid:
            raise OutcomeUnknown(
                f"{self.name} timed out internally; it may still do the work and charge for it", **about
            )
        meaning = CODES.get(f"baseresp{number}")
        if meaning is Meaning.FAULT:
            raise ProviderUnavailable(f"{self.name} refuses: {said.message} ({number})", **about)
        if meaning is Meaning.REQUEST and not paid:  # there is no such job or file: of a new one that may change
            about["status"] = HTTPStatus.NOT_FOUND
            raise ProviderError(f"{self.name} refuses: {said.message} ({number})", **about)
        if meaning is None:
            raise ProviderError(f"{self.name} refuses: {said.message} ({number})", **about)
        raise failure(self.name, said, vendor_code=number, status=HTTPStatus.OK)


def _number_in(document: Mapping[str, Any]) -> int | None:
    """The code of a refusal; None: there is none."""
    code = as_object(document.get("base_resp")).get("status_code")
    try:
        return int(code or 0) or None
    except (TypeError, ValueError):
        return None


def _with_number(error: object) -> object:
    """An error of v2, its number as one of ``base_resp``."""
    code = as_object(error).get("code")
    is_number = as_whole(code) is not None or (isinstance(code, str) and code.isascii() and code.isdigit())
    return {**as_object(error), "code": f"base_resp.{code}"} if is_number else error


def _said_in(document: Mapping[str, Any]) -> Complaint:
    return said_in({**document, "error": _with_number(document.get("error"))})


def _is_v2(model: str) -> bool:
    return model.lower().startswith("minimax-h") and not model.lower().startswith("minimax-hailuo")


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _v1_body(request: VideoRequest) -> dict[str, Any]:
    frames = {each.role: InBase64(each) for each in request.inputs}
    fields = {
        "model": request.model,
        "prompt": request.prompt,
        "duration": whole_seconds(request.seconds),
        "resolution": resolution_of(request.size, _V1_SIDES, request.model) if request.size else None,
        "first_frame_image": frames.get("first_frame") or frames.get("image") or frames.get("reference"),
        "last_frame_image": frames.get("last_frame"),
    }
    return _given(fields) | dict(request.extra)


def _v2_body(request: VideoRequest) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": request.prompt}]
    for each in request.inputs:
        role = _V2_ROLES.get(each.role, "first_frame")
        content.append({"type": "image_url", "image_url": {"url": InBase64(each)}, "role": role})
    ratio = ratio_of(request.size, _V2_RATIOS) if request.size else "adaptive" if request.inputs else "16:9"
    fields = {
        "model": request.model,
        "content": content,
        "duration": whole_seconds(request.seconds),
        "resolution": resolution_of(request.size, _V2_SIDES, request.model) if request.size else None,
        "ratio": ratio,
    }
    return _given(fields) | dict(request.extra)
