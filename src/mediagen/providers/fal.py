"""fal: every app behind one queue.

``POST /{app}`` gives the addresses of the job; there is no word for failure: it is ``COMPLETED`` with an error, or a
result that is no success. Source: fal queue API documentation, as read on 2026-11-20.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, ClassVar, Final

from mediagen.core.errors import ContentRefused, OutcomeUnknown, ProviderError
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
)
from mediagen.providers.bodies import InBase64, json_body
from mediagen.providers.endpoint import quoted
from mediagen.providers.faults import Complaint, failure
from mediagen.providers.shapes import ratio_of
from mediagen.providers.vendor import Vendor
from mediagen.streams.jsonfield import Pointer

_RATIOS: Final = ("16:9", "9:16", "1:1", "4:3", "3:4", "21:9")
_RESULTS: Final[tuple[Pointer, ...]] = (
    ("images", "*", "url"),
    ("image", "url"),
    ("video", "url"),
    ("videos", "*", "url"),
)
_URLS: Final = ("status_url", "response_url", "cancel_url")

_IMAGES: Final = ImageAbilities(max_n=4, max_inputs=8, masks=True, by_operation=True)
_VIDEOS: Final = VideoAbilities(inputs=frozenset({"first_frame", "last_frame", "reference"}), cancel=True)


class Fal(Vendor):
    """Fits ``RunsOperations``."""

    base_url: ClassVar[str] = "https://queue.fal.run"
    known: ClassVar[tuple[Model, ...]] = (
        Model("fal-ai/flux/schnell", images=_IMAGES),
        Model("fal-ai/flux/dev", images=_IMAGES),
    )

    @staticmethod
    def credentials(key: str) -> Mapping[str, str]:
        return {"Authorization": f"Key {key}"}

    def _unknown(self, name: str) -> Model:
        return Model(name, _IMAGES, _VIDEOS)

    def _prepared(self, request: Request) -> dict[str, Any]:
        return _inputs(request)

    async def submit(self, request: Request, /) -> Operation:
        async with self._endpoint.open(
            "POST", f"/{request.model}", json_body(self._prepared(request)), paid=True
        ) as reply:
            document = await reply.document()
        job_id = document.get("request_id") if isinstance(document, dict) else None
        if not isinstance(job_id, str) or not job_id:
            raise OutcomeUnknown(f"{self.name} took it on, but named no id for it", provider=self.name)
        making = Making.IMAGE if isinstance(request, ImageRequest) else Making.VIDEO
        state = {name: document[name] for name in _URLS if isinstance(document.get(name), str)}
        return Operation(self.name, request.model, making, job_id, state)

    async def poll(self, operation: Operation, /) -> Status:
        document = await self._endpoint.call("GET", _address(operation, "status_url"), query={"logs": "0"})
        phase = self._words.phase(document.get("status"))
        error = None
        if phase is Phase.COMPLETED and document.get("error"):
            phase = Phase.FAILED
            words = redact_text(str(document["error"]))[:500]
            error = failure(self.name, Complaint(words, str(document.get("error_type") or "")))
        elif phase is Phase.FAILED:
            error = failure(self.name, Complaint(f"status {document.get('status')}"))
        position, metrics = document.get("queue_position"), document.get("metrics")
        return Status(
            phase,
            operation,
            queue_position=position if isinstance(position, int) and phase is Phase.QUEUED else None,
            error=error,
            usage=Usage(metrics) if isinstance(metrics, dict) and metrics else None,
        )

    @asynccontextmanager
    async def fetch(self, operation: Operation, /) -> AsyncIterator[Answer]:
        async with (
            self._endpoint.open("GET", _address(operation, "response_url")) as reply,
            self._answer(reply, self._read, links=_RESULTS) as answer,
        ):
            yield answer

    def _read(self, document: Any, about: About, found: int) -> None:
        if not isinstance(document, dict) or not found:
            raise ProviderError(f"{self.name} is done, but there is no result", provider=self.name)
        flags = document.get("has_nsfw_concepts")
        if isinstance(flags, list) and flags and all(flags):
            raise ContentRefused(f"{self.name} blacked out all that was made", provider=self.name)
        if isinstance(seed := document.get("seed"), int):
            about.reported["seed"] = seed

    async def cancel(self, operation: Operation, /) -> bool:
        """A job that waits is taken out; one that runs is only told, and its app decides."""
        try:
            document = await self._endpoint.call("PUT", _address(operation, "cancel_url"))
        except ProviderError as exc:
            if exc.context.get("status") != HTTPStatus.BAD_REQUEST:
                raise
            return True  # how it says ALREADY_COMPLETED
        return document.get("status") in ("OK", "ALREADY_COMPLETED")


def _address(operation: Operation, name: str) -> str:
    """Of the answer to the submission, else as documented; the app's name ends after its second part."""
    app = "/".join(operation.model.split("/")[:2])
    tail = {"status_url": "/status", "response_url": "", "cancel_url": "/cancel"}[name]
    return str(operation.state.get(name) or f"/{app}/requests/{quoted(operation.id)}{tail}")


def _inputs(request: Request) -> dict[str, Any]:
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
    names = {"mask": "mask_url", "last_frame": "tail_image_url"}
    fields = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        **own,
        **{names.get(each.role, "image_url"): InBase64(each) for each in request.inputs},
    }
    return {name: value for name, value in fields.items() if value is not None} | dict(request.extra)
