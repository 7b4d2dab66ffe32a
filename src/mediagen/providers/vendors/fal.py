"""fal: every app behind one queue.

``POST /{app}`` gives the addresses of the job; there is no word for failure: it is ``COMPLETED`` with an error, or a
result that is no success. Source: fal queue API documentation, as read on 2026-11-20.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, ClassVar, Final

from yarl import URL

from mediagen.core.errors import ContentRefused, OutcomeUnknown, ProviderError
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
    Role,
    Status,
    Usage,
    VideoAbilities,
)
from mediagen.providers.calls.endpoint import quoted
from mediagen.providers.calls.error_bodies import reasons_in, said_in
from mediagen.providers.calls.lenient_json import as_id, as_list, as_object, as_whole
from mediagen.providers.calls.refusals import failure, nothing_made
from mediagen.providers.calls.request_bodies import in_fields, input_fields, json_body
from mediagen.providers.vendors.sizes import ratio_of
from mediagen.providers.vendors.vendor import Vendor
from mediagen.streams.json.scanner import Pointer

_RATIOS: Final = ("16:9", "9:16", "1:1", "4:3", "3:4", "21:9")
_KEYS: Final = ("images", "image", "video", "videos", "output", "outputs", "result", "url")
_RESULTS: Final[tuple[Pointer, ...]] = (
    *((key,) for key in _KEYS),
    *((key, "*") for key in _KEYS),
    *((key, "*", "*") for key in _KEYS),
    ("data", "images", "*", "url"),
    ("data", "video", "url"),
)
"""Where apps have their links: under these keys, alone, in a list, or as ``url`` of an object."""
_SEVERAL: Final = (
    ("fal-ai/nano-banana*/edit", "image_urls"),
    ("fal-ai/gemini-*/edit", "image_urls"),
    ("fal-ai/bytedance/seedream/*/edit", "image_urls"),
    ("fal-ai/flux-2*/edit", "image_urls"),
    ("fal-ai/flux-pro/kontext/*multi", "image_urls"),
    ("fal-ai/gpt-image-*/edit*", "image_urls"),
    ("fal-ai/qwen-image-edit-plus*", "image_urls"),
)
"""Apps that take several pictures, and their field for them; the setting ``picture_fields`` adds others."""
_URLS: Final = ("status_url", "response_url", "cancel_url")

_IMAGES: Final = ImageAbilities(max_n=4, max_inputs=8, masks=True, by_operation=True)
_VIDEOS: Final = VideoAbilities(inputs=frozenset({"first_frame", "last_frame", "reference"}), cancel=True)
_OWN_FIELDS: Final[Mapping[Role, str]] = {"mask": "mask_url", "last_frame": "tail_image_url"}
_IMAGE_FIELD: Final = "image_url"


class Fal(Vendor):
    """Fits ``RunsOperations``."""

    base_url: ClassVar[str] = "https://queue.fal.run"
    known: ClassVar[tuple[Model, ...]] = (
        Model("fal-ai/flux/schnell", images=replace(_IMAGES, max_inputs=1)),
        Model("fal-ai/flux/dev", images=replace(_IMAGES, max_inputs=1)),
    )

    @staticmethod
    def credentials(key: str) -> Mapping[str, str]:
        return {"Authorization": f"Key {key}"}

    def _unknown(self, name: str) -> Model:
        several = self._several(name, _SEVERAL) is not None
        return Model(name, _IMAGES if several else replace(_IMAGES, max_inputs=1), _VIDEOS)

    def check(self, request: Request, roles: Sequence[Role] = (), /) -> None:
        super().check(request, roles)
        input_fields(request, roles, _OWN_FIELDS, _IMAGE_FIELD, self._several(request.model, _SEVERAL))

    def _prepared(self, request: Request) -> dict[str, Any]:
        return _inputs(request, self._several(request.model, _SEVERAL))

    async def submit(self, request: Request, /) -> Operation:
        async with self._endpoint.open(
            "POST", f"/{request.model}", json_body(self._prepared(request)), paid=True
        ) as reply:
            document = await reply.document()
        document = as_object(document)
        job_id = as_id(document.get("request_id"))
        if job_id is None:
            if document.get("error") or document.get("detail"):
                raise failure(self.name, said_in(document))
            raise OutcomeUnknown(f"{self.name} accepted the job but returned no id", provider=self.name)
        making = Making.IMAGE if isinstance(request, ImageRequest) else Making.VIDEO
        state = {name: document[name] for name in _URLS if self._is_ours(document.get(name))}
        return Operation(self.name, request.model, making, job_id, state)

    async def poll(self, operation: Operation, /) -> Status:
        document = await self._endpoint.call("GET", self._address(operation, "status_url"), query={"logs": "0"})
        phase = self._phase_of(document, document.get("status"))
        if phase is Phase.COMPLETED and document.get("error"):
            phase = Phase.FAILED
        metrics = document.get("metrics")
        return Status(
            phase,
            operation,
            queue_position=as_whole(document.get("queue_position")) if phase is Phase.QUEUED else None,
            error=self._failed(document) if phase is Phase.FAILED else None,
            usage=Usage(metrics) if isinstance(metrics, dict) and metrics else None,
        )

    @asynccontextmanager
    async def fetch(self, operation: Operation, /) -> AsyncIterator[Answer]:
        """A result that is no success is how an app refuses what it was asked for."""
        async with (
            self._endpoint.open("GET", self._address(operation, "response_url"), of_result=True) as reply,
            self._answer(reply, self._read, links=_RESULTS, wanted=str(operation.making)) as answer,
        ):
            yield answer

    def _read(self, document: Any, about: About, found: Sequence[Pointer]) -> None:
        said = as_object(document)
        if not found:
            raise nothing_made(self.name, "a result", reasons_in(said, about.texts))
        flags = as_list(said.get("has_nsfw_concepts"))
        if len(flags) >= len(found) and all(flag is True for flag in flags):
            raise ContentRefused(f"{self.name} blacked out every image", provider=self.name)
        if (seed := as_whole(said.get("seed"))) is not None:
            about.reported["seed"] = seed

    async def cancel(self, operation: Operation, /) -> bool:
        """A job that waits is taken out; one that runs is only told, and its app decides."""
        try:
            document = await self._endpoint.call("PUT", self._address(operation, "cancel_url"))
        except ProviderError as exc:
            if exc.context.get("status") != HTTPStatus.BAD_REQUEST:
                raise
            return True  # how it says ALREADY_COMPLETED
        return document.get("status") in ("OK", "ALREADY_COMPLETED")

    def _is_ours(self, url: object) -> bool:
        """Whether an address of the job is one below our ``base_url``: a gateway passes on those of fal itself."""
        try:
            return isinstance(url, str) and self._endpoint.origin.covers(URL(url, encoded=True))
        except ValueError:
            return False

    def _address(self, operation: Operation, name: str) -> str:
        """Of the answer to the submission, else as documented; the app's name ends after its second part."""
        given = operation.state.get(name)
        if self._is_ours(given):
            return str(given)
        app = "/".join(operation.model.split("/")[:2])
        tail = {"status_url": "/status", "response_url": "", "cancel_url": "/cancel"}[name]
        return f"/{app}/requests/{quoted(operation.id)}{tail}"


def _inputs(request: Request, several: str | None) -> dict[str, Any]:
    size = request.size
    if isinstance(request, ImageRequest):
        own: dict[str, Any] = {
            "num_images": request.n if request.n > 1 else None,
            "output_format": request.output_format,
            "image_size": {"width": size.width, "height": size.height} if size else None,
        }
    else:
        own = {
            "duration": f"{request.seconds:g}" if request.seconds else None,
            "aspect_ratio": ratio_of(size, _RATIOS) if size else None,
        }
    fields = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        **own,
        **in_fields(request, _OWN_FIELDS, _IMAGE_FIELD, several),
    }
    return {name: value for name, value in fields.items() if value is not None} | dict(request.extra)
