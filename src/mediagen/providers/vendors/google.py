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

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, Final

from mediagen.core.errors import InvalidRequest, MediagenError, OutcomeUnknown, ProviderError
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
from mediagen.providers.calls.endpoint import quoted
from mediagen.providers.calls.error_bodies import Complaint, reasons_in, said_in
from mediagen.providers.calls.lenient_json import as_id, as_list, as_object, as_text, as_whole
from mediagen.providers.calls.refusals import failure, nothing_made
from mediagen.providers.calls.request_bodies import InBase64, json_body
from mediagen.providers.vendors.sizes import ratio_of, resolution_of, whole_seconds
from mediagen.providers.vendors.status_words import percent_of
from mediagen.providers.vendors.vendor import Vendor
from mediagen.streams.json.scanner import Pointer

_INTERACTIONS: Final = "interactions:"
_IMAGE_RATIOS: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
_VIDEO_RATIOS: Final = ("16:9", "9:16")
_VIDEO_SIDES: Final = {720: "720p", 1080: "1080p", 2160: "4k"}
_PART: Final = ("candidates", "*", "content", "parts", "*")
_IN_CONTENT: Final[tuple[Pointer, ...]] = (
    (*_PART, "inlineData", "data"),
    (*_PART, "inline_data", "data"),
    ("predictions", "*", "bytesBase64Encoded"),
    ("predictions", "*", "bytes_base64_encoded"),
)
_LINKS_OF_CONTENT: Final[tuple[Pointer, ...]] = ((*_PART, "fileData", "fileUri"), (*_PART, "file_data", "file_uri"))
_DRAFT_BEGUN: Final = re.compile(rb'"thought"\s*:\s*true\s*,[^{}]*"inline_?[dD]ata"\s*:\s*\{[^{}]*\Z')
"""The text of a document up to the data of a picture that is known to be a draft."""
_DRAFT_TAIL: Final = 4096
_IN_OPERATION: Final[tuple[Pointer, ...]] = (
    ("response", "videos", "*", "bytesBase64Encoded"),
    ("response", "generateVideoResponse", "generatedSamples", "*", "video", "encodedVideo"),
)
_LINKS_OF_OPERATION: Final[tuple[Pointer, ...]] = (
    ("response", "generateVideoResponse", "generatedSamples", "*", "video", "uri"),
    ("response", "generatedVideos", "*", "video", "uri"),
)
_ECHOED: Final[tuple[Pointer, ...]] = (("input", "*", "content", "*", "data"), ("input", "*", "data"))
"""Pictures of the request that an answer repeats."""
_IN_STEPS: Final[tuple[Pointer, ...]] = (("steps", "*", "content", "*", "data"), ("outputs", "*", "data"))
_LINKS_OF_STEPS: Final[tuple[Pointer, ...]] = (("steps", "*", "content", "*", "uri"), ("outputs", "*", "uri"))
_GIVEN_BACK: Final = frozenset({"user_input", "thought", "reasoning"})
"""Steps of an interaction that are no results: what was sent, and drafts."""
_RPC: Final = {3: "INVALID_ARGUMENT", 7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 16: "UNAUTHENTICATED"}
"""Codes of ``google.rpc.Status`` in an operation, as its names."""

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
            self._answer(
                reply,
                self._read_content,
                media=_IN_CONTENT,
                links=_LINKS_OF_CONTENT,
                wanted="image",
                unwanted=_is_draft_begun,
            ) as answer,
        ):
            yield answer

    def _read_content(self, document: Any, about: About, found: Sequence[Pointer]) -> None:
        """Drafts that only the end of their part shows to be such are withdrawn."""
        if not isinstance(document, dict):
            raise ProviderError(f"{self.name} did not respond with a JSON object")
        if isinstance(usage := document.get("usageMetadata", document.get("usage_metadata")), dict):
            about.usage = Usage(usage)
        about.withdrawn.update(
            index for index, place in enumerate(found) if _object_at(document, place[:-2]).get("thought") is True
        )
        if len(found) > len(about.withdrawn):
            return
        said = reasons_in(document)
        feedback = as_object(document.get("promptFeedback", document.get("prompt_feedback")))
        if feedback.get("blockReason") or feedback.get("block_reason"):
            said = replace(said, codes=("PROMPT_BLOCKED", *said.codes))
        raise nothing_made(self.name, "a picture", said)

    # -- operations

    async def submit(self, request: Request, /) -> Operation:
        making = Making.IMAGE if isinstance(request, ImageRequest) else Making.VIDEO
        if request.model.startswith(_INTERACTIONS):
            path = "/interactions"
        elif making is Making.VIDEO:
            path = f"/models/{request.model}:predictLongRunning"
        else:
            raise InvalidRequest(f"{request.model} makes images in one call")
        async with self._endpoint.open("POST", path, json_body(self._prepared(request)), paid=True) as reply:
            document = await reply.document()
            document = as_object(document)
        name = as_id(document.get("name")) or as_id(document.get("id"))
        if name is None:
            if document.get("error"):
                raise failure(self.name, _said_in(document))
            raise OutcomeUnknown(f"{self.name} accepted the job but returned no id", provider=self.name)
        return Operation(self.name, request.model, making, name)

    async def poll(self, operation: Operation, /) -> Status:
        media = (*_IN_OPERATION, *_LINKS_OF_OPERATION, *_IN_STEPS, *_LINKS_OF_STEPS, *_ECHOED)
        async with self._endpoint.open("GET", _path_of(operation)) as reply:
            document, found = await self._skim(reply, media)
        if operation.model.startswith(_INTERACTIONS):
            return self._status_of_interaction(operation, document)
        if document.get("done") not in (True, "true"):
            metadata = document.get("metadata")
            if "done" not in document and "name" not in document and not isinstance(metadata, dict):
                self._phase_of(document, document.get("status"))  # raises: this is no operation
            return Status(Phase.RUNNING, operation, percent=percent_of(as_object(metadata).get("progressPercent")))
        if error := self._error_of(document, found):
            return Status(Phase.FAILED, operation, error=error)
        return Status(Phase.COMPLETED, operation)

    def _error_of(
        self, document: Mapping[str, Any], found: Sequence[Pointer], what: str = "a film"
    ) -> MediagenError | None:
        if document.get("error") and not found:
            return failure(self.name, _said_in(document))
        return None if found else nothing_made(self.name, what, reasons_in(document))

    def _status_of_interaction(self, operation: Operation, document: Mapping[str, Any]) -> Status:
        phase = self._phase_of(document, document.get("status"))
        usage = document.get("usage")
        return Status(
            phase,
            operation,
            error=self._failed({**document, "error": document.get("errors") or document.get("error")})
            if phase is Phase.FAILED
            else None,
            usage=Usage(usage) if isinstance(usage, dict) else None,
        )

    @asynccontextmanager
    async def fetch(self, operation: Operation, /) -> AsyncIterator[Answer]:
        what = "a picture" if operation.making is Making.IMAGE else "a film"

        def check(document: Any, about: About, found: Sequence[Pointer]) -> None:
            about.withdrawn.update(
                index
                for index, place in enumerate(found)
                if place[0] == "steps" and as_text(_object_at(document, place[:2]).get("type")) in _GIVEN_BACK
            )
            results = [place for index, place in enumerate(found) if index not in about.withdrawn]
            if error := self._error_of(as_object(document), results, what):
                raise error

        media, links = (*_IN_OPERATION, *_IN_STEPS), (*_LINKS_OF_OPERATION, *_LINKS_OF_STEPS)
        async with (
            self._endpoint.open("GET", _path_of(operation)) as reply,
            self._answer(
                reply, check, media=media, links=links, passed=_ECHOED, wanted=str(operation.making)
            ) as answer,
        ):
            yield answer

    async def cancel(self, operation: Operation, /) -> bool:
        """Interactions alone can be stopped."""
        if not operation.model.startswith(_INTERACTIONS):
            return False
        await self._endpoint.call("POST", f"/interactions/{quoted(operation.id)}/cancel", {})
        return True


def _is_draft_begun(text: bytes) -> bool:
    return _DRAFT_BEGUN.search(text[-_DRAFT_TAIL:]) is not None


def _object_at(document: Any, place: Pointer) -> dict[str, Any]:
    for token in place:
        document = (as_list(document)[int(token) :] or [None])[0] if token.isdigit() else as_object(document).get(token)
    return as_object(document)


def _said_in(document: Mapping[str, Any]) -> Complaint:
    """The complaint of an operation, whose code is a number of ``google.rpc.Code``."""
    said = said_in(document)
    name = _RPC.get(as_whole(as_object(document.get("error")).get("code")) or 0)
    return replace(said, codes=(*said.codes, name)) if name else said


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
