"""Films: a job at a provider, waited for, and the film brought into the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from mediagen.core.errors import InvalidRequest, ProviderError
from mediagen.pipelines.base import Outcome, Run
from mediagen.pipelines.images import MAX_PROMPT
from mediagen.pipelines.inputs import MAX_INPUTS, InputLoader, InputRef
from mediagen.pipelines.metadata import Metadata
from mediagen.pipelines.paid_attempt import VIDEO, PaidAttempt, abandon, describe_result
from mediagen.pipelines.saving.saver import Saver
from mediagen.providers.base import Input, Making, RunsOperations, Size, VideoRequest
from mediagen.providers.registry import Offer, Providers

_LOOKS: Final = frozenset({"style"})
"""A wish for the look, as pictures have one: what draws by rules has one look, and passes over it there too."""


class VideoSpec(BaseModel):
    """A film to make. What is null is as the provider likes best."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)]
    model: str | None = Field(None, max_length=200)
    seconds: float | None = Field(None, gt=0, le=3600)
    size: str | None = Field(None, max_length=20)
    fps: int | None = Field(None, ge=1, le=120)
    seed: int | None = None
    negative_prompt: str | None = Field(None, max_length=MAX_PROMPT)
    user: str | None = Field(None, max_length=512)
    remix_of: str | None = Field(None, max_length=512, description="operation of the same provider")
    remixed_from: str | None = Field(None, max_length=64, description="id of the film that was remixed")
    inputs: tuple[InputRef, ...] = Field((), max_length=MAX_INPUTS, description="pictures to begin or end with")
    metadata: Metadata | None = None
    extra: dict[str, Any] = Field(default_factory=dict)


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
        inputs = await self._inputs.of(spec.inputs, owner=run.owner)
        offer, request = build_video_request(spec, self._providers, inputs)
        paid = PaidAttempt(run, self._providers, self._saver, generative=offer.model.generative)
        operation = paid.operation
        runner: object = offer.provider if operation is None else self._providers.operations_of(operation.provider)
        if not isinstance(runner, RunsOperations):
            raise ProviderError(f"{offer.provider.name} makes no films", provider=offer.provider.name)
        if operation is None:
            operation = await paid.submit(runner, offer.provider.name, request)
        status = await paid.poll_until_completed(runner, operation)
        outcome, about = await paid.fetch(runner, status, VIDEO)
        if len(outcome.files) != 1:
            await self._saver.discard(outcome)
            outcome.release()
            raise ProviderError(f"the provider gave {len(outcome.files)} films instead of one")
        said = {"model": offer.name, "provider": operation.provider, "operation": status.operation.id}
        result = {"file": outcome.files[0].id, **said, **describe_result(about, offer.provider.told(request))}
        return Outcome(result, outcome.files, outcome.release)

    async def abandon(self, checkpoint: Mapping[str, Any], /) -> None:
        await abandon(checkpoint, self._providers, self._saver)

    async def discard(self, outcome: Outcome, /) -> None:
        await self._saver.discard(outcome)


def build_video_request(
    spec: VideoSpec, providers: Providers, inputs: tuple[Input, ...] = ()
) -> tuple[Offer, VideoRequest]:
    """Who makes it, and the request in the provider's words.

    Raises:
        InvalidRequest, UnknownModel: ``context["param"]`` names the field.
    """
    offer = providers.offer(spec.model, Making.VIDEO)
    unknown = sorted(set(spec.extra) - _LOOKS)
    if unknown and not offer.model.generative:
        raise InvalidRequest(f"{offer.name} knows no {', '.join(unknown)}", param=unknown[0])
    request = VideoRequest(
        model=offer.model.id,
        prompt=spec.prompt,
        seconds=spec.seconds,
        size=None if spec.size in {None, "auto"} else Size.parse(spec.size or ""),
        fps=spec.fps,
        seed=spec.seed,
        negative_prompt=spec.negative_prompt,
        user=spec.user,
        remix_of=spec.remix_of,
        inputs=_in_roles(inputs, offer),
        extra=spec.extra,
    )
    offer.provider.check(request)
    return offer, request


def _in_roles(inputs: tuple[Input, ...], offer: Offer) -> tuple[Input, ...]:
    """OpenAI's one picture without a role is the first frame; for models that know references alone it is one."""
    able = offer.model.videos
    if able is None or "first_frame" in able.inputs or "reference" not in able.inputs:
        return inputs
    return tuple(replace(each, role="reference") if each.role == "first_frame" else each for each in inputs)
