"""Replicate: everything is a prediction, whatever it makes.

``owner/name`` runs an official model, ``owner/name:version`` or a bare version a certain one, and
``deployments/owner/name`` a deployment. What a model takes is its own affair: we send the usual names, and ``extra``
what it knows beside them. Outputs are links that live for an hour. Source: Replicate HTTP API reference, as read on
2026-11-20.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
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
    Role,
    Status,
    Usage,
    VideoAbilities,
)
from mediagen.providers.calls.endpoint import quoted
from mediagen.providers.calls.error_bodies import reasons_in, said_in
from mediagen.providers.calls.lenient_json import as_id
from mediagen.providers.calls.refusals import failure, nothing_made
from mediagen.providers.calls.request_bodies import in_fields, input_fields, json_body
from mediagen.providers.vendors.sizes import ratio_of, whole_seconds
from mediagen.providers.vendors.vendor import Vendor
from mediagen.streams.json.scanner import Pointer

_RATIOS: Final = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21", "4:5", "5:4")
_OUTPUT: Final[tuple[Pointer, ...]] = tuple(("output", *"*" * depth) for depth in range(5))
"""Links at any depth: models give one, lists, lists of lists, objects of either, with texts among them."""
_INPUT: Final[tuple[Pointer, ...]] = tuple(("input", *"*" * depth) for depth in range(1, 4))
"""What was sent is repeated, pictures and all."""
_SEVERAL: Final = (
    ("google/nano-banana*", "image_input"),
    ("bytedance/seedream-*", "image_input"),
    ("openai/gpt-image-*", "input_images"),
    ("black-forest-labs/flux-2-*", "input_images"),
    ("qwen/qwen-image-edit-plus*", "image"),
)
"""Models that take several pictures, and their field for them; the setting ``picture_fields`` adds others."""
_PERCENT: Final = re.compile(r"([0-9]{1,3})%")
_TAIL: Final = 4000
"""Characters of a log that are looked at."""

_IMAGES: Final = ImageAbilities(max_n=4, max_inputs=8, masks=True, by_operation=True)
_VIDEOS: Final = VideoAbilities(inputs=frozenset({"first_frame", "last_frame", "reference"}), cancel=True, percent=True)
_OWN_FIELDS: Final[Mapping[Role, str]] = {"mask": "mask", "last_frame": "last_frame"}
_IMAGE_FIELD: Final = "image"


class Replicate(Vendor):
    """Fits ``RunsOperations``. Which of its models makes what only the names in the settings tell."""

    base_url: ClassVar[str] = "https://api.replicate.com/v1"
    known: ClassVar[tuple[Model, ...]] = (
        Model("black-forest-labs/flux-schnell", images=replace(_IMAGES, max_inputs=1)),
        Model("black-forest-labs/flux-1.1-pro", images=replace(_IMAGES, max_inputs=1)),
    )

    def _unknown(self, name: str) -> Model:
        several = self._several(name, _SEVERAL) is not None
        return Model(name, _IMAGES if several else replace(_IMAGES, max_inputs=1), _VIDEOS)

    def check(self, request: Request, roles: Sequence[Role] = (), /) -> None:
        super().check(request, roles)
        input_fields(request, roles, _OWN_FIELDS, _IMAGE_FIELD, self._several(request.model, _SEVERAL))

    def _prepared(self, request: Request) -> dict[str, Any]:
        return _inputs(request, self._several(request.model, _SEVERAL))

    async def submit(self, request: Request, /) -> Operation:
        path, body = _call(request.model)
        body["input"] = self._prepared(request)
        async with self._endpoint.open("POST", path, json_body(body), paid=True) as reply:
            document, _ = await self._skim(reply, (*_OUTPUT, *_INPUT))
        job_id = as_id(document.get("id"))
        if job_id is None:
            if document.get("error") or document.get("detail"):
                raise failure(self.name, said_in(document))
            raise OutcomeUnknown(f"{self.name} accepted the job but returned no id", provider=self.name)
        making = Making.IMAGE if isinstance(request, ImageRequest) else Making.VIDEO
        return Operation(self.name, request.model, making, job_id)

    async def poll(self, operation: Operation, /) -> Status:
        async with self._endpoint.open("GET", f"/predictions/{quoted(operation.id)}") as reply:
            document, found = await self._skim(reply, (*_OUTPUT, *_INPUT))
        phase = self._phase_of(document, document.get("status"))
        error = None
        if phase is Phase.FAILED:
            error = self._failed(document)
        elif phase is Phase.COMPLETED and not any(place[0] == "output" for place in found):
            error = nothing_made(self.name, "any output", reasons_in(document))
            phase = Phase.FAILED
        metrics = document.get("metrics")
        return Status(
            phase,
            operation,
            percent=percent_in(document.get("logs")) if phase is Phase.RUNNING else None,
            error=error,
            usage=Usage(metrics) if isinstance(metrics, dict) and metrics else None,
        )

    @asynccontextmanager
    async def fetch(self, operation: Operation, /) -> AsyncIterator[Answer]:
        def read(document: Any, about: About, found: Sequence[Pointer]) -> None:
            if found:
                return
            said = reasons_in(document, about.texts)
            if not said.message:
                raise ProviderError(f"{self.name} no longer has the output", provider=self.name)
            raise nothing_made(self.name, f"a link to any {operation.making}", said)

        async with (
            self._endpoint.open("GET", f"/predictions/{quoted(operation.id)}") as reply,
            self._answer(reply, read, links=_OUTPUT, passed=_INPUT, wanted=str(operation.making)) as answer,
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


def _inputs(request: Request, several: str | None) -> dict[str, Any]:
    """What most models understand; the rest ignore it. ``several``: the field that takes several pictures."""
    if isinstance(request, ImageRequest):
        own: dict[str, Any] = {
            "num_outputs": request.n if request.n > 1 else None,
            "output_format": {"jpeg": "jpg"}.get(request.output_format or "", request.output_format),
            "output_quality": request.output_compression,
        }
    else:
        own = {"duration": whole_seconds(request.seconds), "fps": request.fps}
    fields = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "width": request.size.width if request.size else None,
        "height": request.size.height if request.size else None,
        "aspect_ratio": ratio_of(request.size, _RATIOS) if request.size else None,
        **own,
        **in_fields(request, _OWN_FIELDS, _IMAGE_FIELD, several),
    }
    return {name: value for name, value in fields.items() if value is not None} | dict(request.extra)


def percent_in(logs: object) -> int | None:
    """The last percentage in a log: the bars of progress that models print."""
    found = _PERCENT.findall(logs[-_TAIL:]) if isinstance(logs, str) else []
    return min(100, int(found[-1])) if found else None
