"""Videos: a job at a provider is polled until it completes, and the video is saved in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import ConfigDict, Field

from mediagen.core.errors import InvalidRequest, ProviderError
from mediagen.core.files import FileKind
from mediagen.pipelines.base import Outcome, Run
from mediagen.pipelines.derive import derive
from mediagen.pipelines.images import parse_size
from mediagen.pipelines.inputs import MAX_INPUTS, InputLoader, InputRef
from mediagen.pipelines.metadata import Metadata
from mediagen.pipelines.paid_attempt import PaidAttempt
from mediagen.pipelines.paid_checkpoint import abandon
from mediagen.pipelines.paid_results import describe_result
from mediagen.pipelines.saving.saver import Saver
from mediagen.providers.base import Making, Role, RunsOperations, VideoRequest
from mediagen.providers.options import SizeText, VideoOptions
from mediagen.providers.registry import Offer, Providers

_LOOKS: Final = frozenset({"style"})
"""Options for the look, as images have them; models that draw by fixed rules ignore them for both."""


class VideoSpec(VideoOptions[SizeText]):
    """The request of a video task, as its row keeps it."""

    model_config = ConfigDict(extra="forbid")

    remix_of: str | None = Field(None, max_length=512, description="operation of the same provider")
    remixed_from: str | None = Field(None, max_length=64, description="id of the video that was remixed")
    inputs: tuple[InputRef, ...] = Field((), max_length=MAX_INPUTS)
    metadata: Metadata | None = None
    extra: dict[str, Any] = Field(default_factory=dict)

    @property
    def roles(self) -> list[Role]:
        """What the inputs are for."""
        return [each.role for each in self.inputs]


class VideoPipeline:
    """Fits ``pipelines.base.Pipeline``."""

    kind = "video"
    lane = "video"
    spec = VideoSpec

    def __init__(self, providers: Providers, saver: Saver, inputs: InputLoader) -> None:
        self._providers = providers
        self._saver = saver
        self._inputs = inputs

    async def run(self, spec: VideoSpec, run: Run, /) -> Outcome:
        inputs = await self._inputs.load(spec.inputs, owner=run.owner)
        offer, request = build_video_request(spec, self._providers, spec.roles)
        known = tuple(replace(each, role=_known_role(each.role, offer)) for each in inputs)
        request = request.model_copy(update={"inputs": known})
        paid = PaidAttempt(run, self._providers, self._saver, FileKind.VIDEO, generative=offer.model.generative)
        operation = paid.operation
        runner: object = offer.provider if operation is None else self._providers.operations_of(operation.provider)
        if not isinstance(runner, RunsOperations):
            raise ProviderError(f"{offer.provider.name} makes no videos", provider=offer.provider.name)
        if operation is None:
            operation = await paid.submit(runner, offer.provider.name, request)
        status = await paid.poll_until_completed(runner, operation)
        outcome, about = await paid.fetch(runner, status)
        if len(outcome.files) != 1:
            await self._saver.discard(outcome)
            outcome.release()
            raise ProviderError(f"the provider returned {len(outcome.files)} videos instead of one")
        said = {"model": offer.name, "provider": operation.provider, "operation": status.operation.id}
        result = {
            "file": outcome.files[0].id,
            **said,
            **describe_result(about, offer.provider.effective_options(request)),
        }
        return Outcome(result, outcome.files, outcome.release)

    async def abandon(self, checkpoint: Mapping[str, Any], /) -> None:
        await abandon(checkpoint, self._providers, self._saver)

    async def discard(self, outcome: Outcome, /) -> None:
        await self._saver.discard(outcome)


def build_video_request(spec: VideoSpec, providers: Providers, roles: Sequence[Role]) -> tuple[Offer, VideoRequest]:
    """Who makes the video, and the request for it, checked; its inputs, which have these ``roles``, are left out.

    Raises:
        InvalidRequest, UnknownModel: ``context["param"]`` names the field.
    """
    offer = providers.offer(spec.model, Making.VIDEO)
    unknown = sorted(set(spec.extra) - _LOOKS)
    if unknown and not offer.model.generative:
        raise InvalidRequest(f"{offer.name} does not support {', '.join(unknown)}", param=unknown[0])
    request = derive(VideoRequest, spec, model=offer.model.id, size=parse_size(spec.size), inputs=())
    offer.provider.check(request, [_known_role(role, offer) for role in roles])
    return offer, request


def _known_role(role: Role, offer: Offer) -> Role:
    """OpenAI's one image without a role is the first frame; for models that take references alone it is one."""
    able = offer.model.videos
    takes_references_alone = able is not None and "first_frame" not in able.inputs and "reference" in able.inputs
    return "reference" if role == "first_frame" and takes_references_alone else role
