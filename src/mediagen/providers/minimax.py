"""MiniMax: pictures in one call, films by two generations of its API, told apart by the model's name.

v1 (Hailuo): create, query, then ask for the file's link. v2 (MiniMax-H3): create, query; the query has the link, a
fresh one each time. HTTP says 200 even to a refusal: ``base_resp.status_code`` counts. There is neither a percentage
nor a cancel.
Source: MiniMax API documentation, video and image generation, as read on 2026-11-20; codes also from its own examples.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, ClassVar, Final

from mediagen.core.errors import (
    ContentRefused,
    InvalidRequest,
    MediagenError,
    OutcomeUnknown,
    ProviderBudgetSpent,
    ProviderError,
    ProviderKeyRefused,
    ProviderRateLimited,
    ProviderUnavailable,
)
from mediagen.core.redaction import redact_text
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
from mediagen.providers.bodies import InBase64, json_body
from mediagen.providers.endpoint import quoted
from mediagen.providers.faults import Complaint, failure, said_in
from mediagen.providers.shapes import ratio_of, resolution_of, whole_seconds
from mediagen.providers.vendor import Vendor

_ERRORS: Final[Mapping[int, type[MediagenError]]] = {
    1002: ProviderRateLimited,
    1004: ProviderKeyRefused,
    1008: ProviderBudgetSpent,
    1013: ProviderUnavailable,
    1024: ProviderUnavailable,
    1026: ContentRefused,
    1027: ContentRefused,
    1039: ProviderRateLimited,
    2013: InvalidRequest,
    2049: ProviderKeyRefused,
}
"""``base_resp.status_code``: rate, key, money, fault, fault, prompt, result, tokens a minute, parameter, key."""
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

    def _read_images(self, document: Any, about: About, found: int) -> None:
        self._check(document, paid=True)
        if found == 0:
            raise ProviderError(f"{self.name} answered without a picture")
        about.usage = Usage({"images": found})

    # -- films

    async def submit(self, request: Request, /) -> Operation:
        if isinstance(request, ImageRequest):
            raise InvalidRequest(f"{request.model} makes pictures in one call")
        path = "/v2/video_generation" if _is_v2(request.model) else "/v1/video_generation"
        async with self._endpoint.open("POST", path, json_body(self._prepared(request)), paid=True) as reply:
            document = await reply.document()
        if isinstance(document, dict):
            self._check(document, paid=True)
        task_id = document.get("task_id") if isinstance(document, dict) else None
        if not isinstance(task_id, str | int) or not task_id:
            raise OutcomeUnknown(f"{self.name} took the film on, but named no id for it", provider=self.name)
        return Operation(self.name, request.model, Making.VIDEO, str(task_id))

    async def poll(self, operation: Operation, /) -> Status:
        return await (self._poll_v2 if _is_v2(operation.model) else self._poll_v1)(operation)

    async def _poll_v1(self, operation: Operation) -> Status:
        path = "/v1/query/video_generation"
        document = await self._endpoint.call("GET", path, query={"task_id": operation.id})
        phase = self._words.phase(document.get("status"))
        if phase is Phase.FAILED:
            said = document.get("base_resp")
            message = said.get("status_msg") if isinstance(said, dict) else None
            return Status(phase, operation, error=self._failed(said, message))
        self._check(document)
        file_id = document.get("file_id")
        if file_id:
            operation = replace(operation, state={"file_id": str(file_id)})
        return Status(phase, operation)

    def _failed(self, said: object, message: object) -> MediagenError:
        code = said.get("status_code") if isinstance(said, dict) else None
        if isinstance(code, int) and _ERRORS.get(code) is ContentRefused:
            return ContentRefused(f"{self.name} refuses the content", provider=self.name, vendor_code=code)
        words = message if isinstance(message, str) and message.lower() not in ("", "success") else ""
        return failure(self.name, Complaint(redact_text(words)[:500]))

    async def _poll_v2(self, operation: Operation) -> Status:
        task = await self._task(operation)
        phase = self._words.phase(task.get("status"))
        error = None
        if phase is Phase.FAILED:
            said = said_in(task) if task.get("error") else Complaint(f"status {task.get('status')}")
            own = task.get("error")
            error = self._failed({"status_code": own.get("code")} if isinstance(own, dict) else None, said.message)
        usage = task.get("usage")
        return Status(phase, operation, error=error, usage=Usage(usage) if isinstance(usage, dict) else None)

    async def _task(self, operation: Operation) -> dict[str, Any]:
        document = await self._endpoint.call("GET", f"/v2/query/video_generation/{quoted(operation.id)}")
        self._check(document)
        task = document.get("task")
        if not isinstance(task, dict):
            raise ProviderError(f"{self.name} says nothing of the film {operation.id}", provider=self.name)
        return task

    @asynccontextmanager
    async def fetch(self, operation: Operation, /) -> AsyncIterator[Answer]:
        if _is_v2(operation.model):
            content = (await self._task(operation)).get("content")
            url = content.get("url") if isinstance(content, dict) else None
        else:
            file_id = operation.state.get("file_id")
            if not file_id:
                file_id = (await self._poll_v1(operation)).operation.state.get("file_id", "")
            document = await self._endpoint.call("GET", "/v1/files/retrieve", query={"file_id": str(file_id)})
            self._check(document)
            file = document.get("file")
            url = file.get("download_url") if isinstance(file, dict) else None
        if not isinstance(url, str) or not url:
            raise ProviderError(f"{self.name} has no film for {operation.id}", provider=self.name)
        yield self._one_link(url, About(), media_type="video/mp4")

    async def cancel(self, operation: Operation, /) -> bool:
        """MiniMax has no such call."""
        return False

    def _check(self, document: Any, *, paid: bool = False) -> None:
        """Raise what ``base_resp`` says; v2 puts its refusals into HTTP, but may have it too."""
        if not isinstance(document, dict):
            raise ProviderError(f"{self.name} answered something else than a JSON object")
        said = document.get("base_resp")
        if not isinstance(said, dict) or not (code := said.get("status_code")):
            return
        words = redact_text(str(said.get("status_msg", "")))[:500]
        about: dict[str, Any] = {"provider": self.name, "vendor_code": code, "status": HTTPStatus.OK}
        if code == _TIMED_OUT and paid:
            raise OutcomeUnknown(f"{self.name} timed out within; it may be doing the work, and charge for it", **about)
        error = ProviderUnavailable if code == _TIMED_OUT else _ERRORS.get(code, ProviderError)
        if error is InvalidRequest and not paid:
            error = ProviderError
        if error is ProviderKeyRefused:
            raise error(f"{self.name} does not take the key of this server", **about)
        raise error(f"{self.name} refuses: {words} ({code})", **about)


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
