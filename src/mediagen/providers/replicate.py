"""Replicate: everything is a prediction, whatever it makes.

``owner/name`` runs an official model, ``owner/name:version`` or a bare version a certain one, and
``deployments/owner/name`` a deployment. What a model takes is its own affair: we send the usual names, and ``extra``
what it knows beside them. Outputs are links that live for an hour. Source: Replicate HTTP API reference, as read on
2026-11-20.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final

from mediagen.core.errors import OutcomeUnknown, ProviderError
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

_RATIOS: Final = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21", "4:5", "5:4")
_OUTPUT: Final[tuple[Pointer, ...]] = (("output",), ("output", "*"))
_PERCENT: Final = re.compile(r"([0-9]{1,3})%")
_TAIL: Final = 4000
"""Characters of a log that are looked at."""

_IMAGES: Final = ImageAbilities(max_n=4, max_inputs=8, masks=True, by_operation=True)
_VIDEOS: Final = VideoAbilities(inputs=frozenset({"first_frame", "last_frame", "reference"}), cancel=True, percent=True)


class Replicate(Vendor):
    """Fits ``RunsOperations``. Which of its models makes what only the names in the settings tell."""

    base_url: ClassVar[str] = "https://api.replicate.com/v1"
    known: ClassVar[tuple[Model, ...]] = (
        Model("black-forest-labs/flux-schnell", images=_IMAGES),
        Model("black-forest-labs/flux-1.1-pro", images=_IMAGES),
    )

    def _unknown(self, name: str) -> Model:
        return Model(name, _IMAGES, _VIDEOS)

    def _prepared(self, request: Request) -> dict[str, Any]:
        return _inputs(request)

    async def submit(self, request: Request, /) -> Operation:
        path, body = _call(request.model)
        body["input"] = self._prepared(request)
        async with self._endpoint.open("POST", path, json_body(body), paid=True) as reply:
            document = await reply.document()
        job_id = document.get("id") if isinstance(document, dict) else None
        if not isinstance(job_id, str) or not job_id:
            raise OutcomeUnknown(f"{self.name} took it on, but named no id for it", provider=self.name)
        making = Making.IMAGE if isinstance(request, ImageRequest) else Making.VIDEO
        return Operation(self.name, request.model, making, job_id)

    async def poll(self, operation: Operation, /) -> Status:
        document, found = await self._skim(f"/predictions/{quoted(operation.id)}", _OUTPUT)
        phase = self._words.phase(document.get("status"))
        if phase is Phase.COMPLETED and not found:
            error = ProviderError(f"{self.name} is done, but there is no output", provider=self.name)
            return Status(Phase.FAILED, operation, error=error)
        metrics = document.get("metrics")
        return Status(
            phase,
            operation,
            percent=percent_in(document.get("logs")) if phase is Phase.RUNNING else None,
            error=failure(self.name, _complaint(document)) if phase is Phase.FAILED else None,
            usage=Usage(metrics) if isinstance(metrics, dict) and metrics else None,
        )

    @asynccontextmanager
    async def fetch(self, operation: Operation, /) -> AsyncIterator[Answer]:
        def read(document: Any, about: About, found: int) -> None:
            if not found:
                raise ProviderError(f"{self.name} has no output (any more)", provider=self.name)

        async with (
            self._endpoint.open("GET", f"/predictions/{quoted(operation.id)}") as reply,
            self._answer(reply, read, links=_OUTPUT) as answer,
        ):
            yield answer

    async def cancel(self, operation: Operation, /) -> bool:
        await self._endpoint.call("POST", f"/predictions/{quoted(operation.id)}/cancel")
        return True


def _call(model: str) -> tuple[str, dict[str, Any]]:
    if model.startswith("deployments/"):
        return f"/{model}/predictions", {}
    name, _, version = model.partition(":")
    if version or "/" not in name:
        return "/predictions", {"version": version or name}
    return f"/models/{name}/predictions", {}


def _inputs(request: Request) -> dict[str, Any]:
    """What most models understand; the rest ignore it."""
    if isinstance(request, ImageRequest):
        own: dict[str, Any] = {
            "num_outputs": request.n if request.n > 1 else None,
            "output_format": {"jpeg": "jpg"}.get(request.output_format or "", request.output_format),
            "output_quality": request.output_compression,
        }
    else:
        own = {"duration": int(request.seconds) if request.seconds else None, "fps": request.fps}
    names = {"image": "image", "mask": "mask", "first_frame": "image", "last_frame": "last_frame", "reference": "image"}
    fields = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "width": request.size.width if request.size else None,
        "height": request.size.height if request.size else None,
        "aspect_ratio": ratio_of(request.size, _RATIOS) if request.size else None,
        **own,
        **{names[each.role]: InBase64(each) for each in request.inputs},
    }
    return {name: value for name, value in fields.items() if value is not None} | dict(request.extra)


def percent_in(logs: object) -> int | None:
    """The last percentage in a log: the bars of progress that models print."""
    found = _PERCENT.findall(logs[-_TAIL:]) if isinstance(logs, str) else []
    return min(100, int(found[-1])) if found else None


def _complaint(document: dict[str, Any]) -> Complaint:
    error = document.get("error")
    return Complaint(error[:500] if isinstance(error, str) and error else f"status {document.get('status')}")
