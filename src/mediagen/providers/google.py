"""Google's Gemini API, in the form that a model speaks.

    gemini-…            pictures   models/{m}:generateContent         base64 in the answer
    imagen-…            pictures   models/{m}:predict                 base64 in the answer
    veo-…               films      models/{m}:predictLongRunning      an operation; a link for the key, or base64
    interactions:{m}    both       interactions, in background        an interaction; a link or base64

The last is chosen by the name in the settings (``models = ["film=interactions:veo-4"]``). An operation that is done
without a film but with a count of filtered ones has failed. Source: Gemini API reference, as read on 2026-11-20, and
the requests of its own client library.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final

from mediagen.core.errors import ContentRefused, InvalidRequest, MediagenError, OutcomeUnknown, ProviderError
from mediagen.providers.base import (
    About,
    Answer,
    ImageAbilities,
    ImageRequest,
    Input,
    Making,
    Model,
    Operation,
    Phase,
    Request,
    Role,
    Size,
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
from mediagen.providers.words import percent_of
from mediagen.streams.jsonfield import Pointer

_INTERACTIONS: Final = "interactions:"
_IMAGE_RATIOS: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
_VIDEO_RATIOS: Final = ("16:9", "9:16")
_VIDEO_SIDES: Final = {720: "720p", 1080: "1080p", 2160: "4k"}
_IN_CONTENT: Final[tuple[Pointer, ...]] = (
    ("candidates", "*", "content", "parts", "*", "inlineData", "data"),
    ("predictions", "*", "bytesBase64Encoded"),
)
_IN_OPERATION: Final[tuple[Pointer, ...]] = (
    ("response", "videos", "*", "bytesBase64Encoded"),
    ("response", "generateVideoResponse", "generatedSamples", "*", "video", "encodedVideo"),
)
_LINKS_OF_OPERATION: Final[tuple[Pointer, ...]] = (
    ("response", "generateVideoResponse", "generatedSamples", "*", "video", "uri"),
    ("response", "generatedVideos", "*", "video", "uri"),
)
_IN_STEPS: Final[tuple[Pointer, ...]] = (("steps", "*", "content", "*", "data"), ("outputs", "*", "data"))
_LINKS_OF_STEPS: Final[tuple[Pointer, ...]] = (("steps", "*", "content", "*", "uri"), ("outputs", "*", "uri"))
_BLOCKED: Final = ("SAFETY", "PROHIBITED", "BLOCKLIST", "RECITATION", "SPII")

_IMAGES: Final = ImageAbilities(max_inputs=14)
_VIDEOS: Final = VideoAbilities(seconds=(4, 6, 8), inputs=frozenset({"first_frame", "last_frame", "reference"}))


class Google(Vendor):
    """Fits ``MakesImages`` and ``RunsOperations``."""

    base_url: ClassVar[str] = "https://generativelanguage.googleapis.com/v1beta"
    known: ClassVar[tuple[Model, ...]] = (
        Model("gemini-2.5-flash-image", images=_IMAGES),
        Model("gemini-3-pro-image-preview", images=_IMAGES),
        Model("veo-3.1-generate-preview", videos=_VIDEOS),
        Model("veo-3.1-fast-generate-preview", videos=_VIDEOS),
    )

    @staticmethod
    def credentials(key: str) -> Mapping[str, str]:
        return {"x-goog-api-key": key}

    def _unknown(self, name: str) -> Model:
        if name.startswith(_INTERACTIONS):
            frames: frozenset[Role] = frozenset({"first_frame", "reference"})
            return Model(
                name, ImageAbilities(max_inputs=14, by_operation=True), VideoAbilities(inputs=frames, cancel=True)
            )
        if name.startswith("veo"):
            return Model(name, videos=_VIDEOS)
        return Model(name, images=ImageAbilities(max_n=4) if name.startswith("imagen") else _IMAGES)

    def _prepared(self, request: Request) -> dict[str, Any]:
        if request.model.startswith(_INTERACTIONS):
            return _interaction_body(request)
        if isinstance(request, VideoRequest):
            return _veo_body(request)
        return _imagen_body(request) if request.model.startswith("imagen") else _content_body(request)

    # -- pictures in one call

    @asynccontextmanager
    async def generate(self, request: ImageRequest, /) -> AsyncIterator[Answer]:
        verb = "predict" if request.model.startswith("imagen") else "generateContent"
        path, body = f"/models/{request.model}:{verb}", json_body(self._prepared(request))
        async with (
            self._endpoint.open("POST", path, body, paid=True) as reply,
            self._answer(reply, self._read_content, media=_IN_CONTENT) as answer,
        ):
            yield answer

    def _read_content(self, document: Any, about: About, found: int) -> None:
        if not isinstance(document, dict):
            raise ProviderError(f"{self.name} answered something else than a JSON object")
        if isinstance(usage := document.get("usageMetadata"), dict):
            about.usage = Usage(usage)
        if found:
            return
        reasons = [str((document.get("promptFeedback") or {}).get("blockReason") or "")]
        for each in (*document.get("candidates", ()), *document.get("predictions", ())):
            reasons += [str(each.get(name) or "") for name in ("finishReason", "finishMessage", "raiFilteredReason")]
        said = " ".join(reason for reason in reasons if reason)[:300]
        filtered = any(
            isinstance(each, dict) and each.get("raiFilteredReason") for each in document.get("predictions", ())
        )
        if filtered or any(word in said.upper() for word in _BLOCKED):
            raise ContentRefused(f"{self.name} refuses the content: {said}", provider=self.name)
        raise ProviderError(f"{self.name} answered without a picture{': ' + said if said else ''}", provider=self.name)

    # -- operations

    async def submit(self, request: Request, /) -> Operation:
        making = Making.IMAGE if isinstance(request, ImageRequest) else Making.VIDEO
        if request.model.startswith(_INTERACTIONS):
            path = "/interactions"
        elif making is Making.VIDEO:
            path = f"/models/{request.model}:predictLongRunning"
        else:
            raise InvalidRequest(f"{request.model} makes pictures in one call")
        async with self._endpoint.open("POST", path, json_body(self._prepared(request)), paid=True) as reply:
            document = await reply.document()
        name = (document.get("name") or document.get("id")) if isinstance(document, dict) else None
        if not isinstance(name, str) or not name:
            raise OutcomeUnknown(f"{self.name} took it on, but named no id for it", provider=self.name)
        return Operation(self.name, request.model, making, name)

    async def poll(self, operation: Operation, /) -> Status:
        media = (*_IN_OPERATION, *_LINKS_OF_OPERATION, *_IN_STEPS, *_LINKS_OF_STEPS)
        document, found = await self._skim(_path_of(operation), media)
        if operation.model.startswith(_INTERACTIONS):
            return self._status_of_interaction(operation, document)
        if not document.get("done"):
            metadata = document.get("metadata")
            percent = percent_of(metadata.get("progressPercent")) if isinstance(metadata, dict) else None
            return Status(Phase.RUNNING, operation, percent=percent)
        if error := self._error_of(document, found):
            return Status(Phase.FAILED, operation, error=error)
        return Status(Phase.COMPLETED, operation)

    def _error_of(self, document: Mapping[str, Any], found: int) -> MediagenError | None:
        if document.get("error"):
            return failure(self.name, said_in(document))
        if found:
            return None
        response = document.get("response")
        response = response if isinstance(response, dict) else {}
        inner = response.get("generateVideoResponse")
        about = inner if isinstance(inner, dict) else response
        if about.get("raiMediaFilteredCount"):
            reasons = "; ".join(str(reason) for reason in about.get("raiMediaFilteredReasons") or ())[:300]
            return ContentRefused(f"{self.name} filtered all that was made: {reasons}", provider=self.name)
        return ProviderError(f"{self.name} is done, but there is no film", provider=self.name)

    def _status_of_interaction(self, operation: Operation, document: Mapping[str, Any]) -> Status:
        phase = self._words.phase(document.get("status"))
        error = None
        if phase is Phase.FAILED:
            errors = document.get("errors")
            own = errors[0] if isinstance(errors, list) and errors else document.get("error")
            word = Complaint(f"status {document.get('status')}", str(document.get("status")))
            error = failure(self.name, said_in({"error": own}) if own else word)
        usage = document.get("usage")
        return Status(phase, operation, error=error, usage=Usage(usage) if isinstance(usage, dict) else None)

    @asynccontextmanager
    async def fetch(self, operation: Operation, /) -> AsyncIterator[Answer]:
        def check(document: Any, about: About, found: int) -> None:
            if not found and (error := self._error_of(document if isinstance(document, dict) else {}, found)):
                raise error

        media, links = (*_IN_OPERATION, *_IN_STEPS), (*_LINKS_OF_OPERATION, *_LINKS_OF_STEPS)
        async with (
            self._endpoint.open("GET", _path_of(operation)) as reply,
            self._answer(reply, check, media=media, links=links, wanted=str(operation.making)) as answer,
        ):
            yield answer

    async def cancel(self, operation: Operation, /) -> bool:
        """Interactions alone can be stopped."""
        if not operation.model.startswith(_INTERACTIONS):
            return False
        await self._endpoint.call("POST", f"/interactions/{quoted(operation.id)}/cancel", {})
        return True


def _path_of(operation: Operation) -> str:
    if operation.model.startswith(_INTERACTIONS):
        return f"/interactions/{quoted(operation.id)}"
    return "/" + "/".join(quoted(step) for step in operation.id.split("/"))


def _given(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _picture_size(size: Size | None) -> str | None:
    """``2K`` and more must be asked for; not every model knows the word for less."""
    longest = max(size) if size else 0
    return "4K" if longest > 3000 else "2K" if longest > 1536 else None


def _inline(each: Input) -> dict[str, Any]:
    return {"inlineData": {"mimeType": each.media_type, "data": InBase64(each, as_uri=False)}}


def _content_body(request: ImageRequest) -> dict[str, Any]:
    size = _given(
        aspectRatio=ratio_of(request.size, _IMAGE_RATIOS) if request.size else None,
        imageSize=_picture_size(request.size),
    )
    config = _given(responseModalities=["TEXT", "IMAGE"], imageConfig=size or None, seed=request.seed)
    parts = [{"text": request.prompt}, *(_inline(each) for each in request.inputs)]
    return {"contents": [{"role": "user", "parts": parts}], "generationConfig": config, **request.extra}


def _imagen_body(request: ImageRequest) -> dict[str, Any]:
    parameters = _given(
        sampleCount=request.n,
        aspectRatio=ratio_of(request.size, ("1:1", "3:4", "4:3", "9:16", "16:9")) if request.size else None,
        sampleImageSize=_picture_size(request.size),
        outputOptions={"mimeType": f"image/{request.output_format}"} if request.output_format else None,
    )
    return {"instances": [{"prompt": request.prompt}], "parameters": parameters | dict(request.extra)}


def _veo_body(request: VideoRequest) -> dict[str, Any]:
    def still(each: Input) -> dict[str, Any]:
        return {"bytesBase64Encoded": InBase64(each, as_uri=False), "mimeType": each.media_type}

    by_role = {each.role: each for each in request.inputs}
    first, last = by_role.get("first_frame") or by_role.get("image"), by_role.get("last_frame")
    references = [
        {"image": still(each), "referenceType": "asset"} for each in request.inputs if each.role == "reference"
    ]
    instance = _given(
        prompt=request.prompt,
        image=still(first) if first else None,
        lastFrame=still(last) if last else None,
        referenceImages=references or None,
    )
    parameters = _given(
        durationSeconds=whole_seconds(request.seconds),
        aspectRatio=ratio_of(request.size, _VIDEO_RATIOS) if request.size else None,
        resolution=resolution_of(request.size, _VIDEO_SIDES, request.model) if request.size else None,
        negativePrompt=request.negative_prompt,
    )
    return {"instances": [instance], "parameters": parameters | dict(request.extra)}


def _interaction_body(request: Request) -> dict[str, Any]:
    making = "image" if isinstance(request, ImageRequest) else "video"
    stills = [
        {"type": "image", "data": InBase64(each, as_uri=False), "mime_type": each.media_type} for each in request.inputs
    ]
    content: list[dict[str, Any]] = [{"type": "text", "text": request.prompt}, *stills]
    ratios = _IMAGE_RATIOS if making == "image" else _VIDEO_RATIOS
    seconds = whole_seconds(request.seconds) if isinstance(request, VideoRequest) else None
    wanted = _given(
        type=making,
        aspect_ratio=ratio_of(request.size, ratios) if request.size else None,
        duration=seconds,
        resolution=resolution_of(request.size, _VIDEO_SIDES, request.model)
        if request.size and isinstance(request, VideoRequest)
        else None,
        delivery="uri" if making == "video" else None,
    )
    return {
        "model": request.model.removeprefix(_INTERACTIONS),
        "input": [{"type": "user_input", "content": content}],
        "background": True,
        "store": True,
        "response_format": wanted,
        **({"generation_config": {"seed": request.seed}} if request.seed is not None else {}),
        **request.extra,
    }
