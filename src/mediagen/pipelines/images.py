"""Pictures: a provider asked, what it makes brought into the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from mediagen.core.errors import InvalidRequest, ProviderError
from mediagen.pipelines.base import Outcome, Run
from mediagen.pipelines.inputs import MAX_INPUTS, InputLoader, InputRef
from mediagen.pipelines.metadata import Metadata
from mediagen.pipelines.paid_attempt import IMAGE, PaidAttempt, abandon, describe_result
from mediagen.pipelines.previews import Previews
from mediagen.pipelines.saving.saver import Saver
from mediagen.providers.base import About, ImageRequest, Input, MakesImages, Making, RunsOperations, Size, Told
from mediagen.providers.registry import Offer, Providers

MAX_PROMPT = 32_000


class ImageSpec(BaseModel):
    """Pictures to make. What is null is as the provider likes best."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)]
    model: str | None = Field(None, max_length=200)
    n: int = Field(1, ge=1, le=10)
    size: str | None = Field(None, max_length=20)
    quality: str | None = Field(None, max_length=40)
    background: Literal["transparent", "opaque", "auto"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: int | None = Field(None, ge=0, le=100)
    style: str | None = Field(None, max_length=40)
    moderation: str | None = Field(None, max_length=40)
    negative_prompt: str | None = Field(None, max_length=MAX_PROMPT)
    seed: int | None = None
    user: str | None = Field(None, max_length=512)
    partial_images: int | None = Field(None, ge=0, le=3, description="earlier states for those who watch; null: none")
    inputs: tuple[InputRef, ...] = Field((), max_length=MAX_INPUTS, description="pictures to edit or to go by")
    metadata: Metadata | None = None
    extra: dict[str, Any] = Field(default_factory=dict)


class ImagePipeline:
    """Fits ``pipelines.base.Pipeline``."""

    kind = "image"
    lane = "image"
    spec = ImageSpec

    def __init__(self, providers: Providers, saver: Saver, inputs: InputLoader, previews: Previews) -> None:
        self._providers = providers
        self._saver = saver
        self._inputs = inputs
        self._previews = previews

    async def run(self, spec: ImageSpec, run: Run, /) -> Outcome:
        inputs = await self._inputs.of(spec.inputs, owner=run.owner)
        offer, request = build_image_request(spec, self._providers, inputs)
        paid = PaidAttempt(
            run, self._providers, self._saver, generative=offer.model.generative, previews=self._previews
        )
        if offer.model.images is not None and offer.model.images.by_operation:
            outcome, about = await self._by_operation(offer, request, paid)
        else:
            outcome, about = await self._at_once(offer, request, paid)
        revised = {str(index): text for index, text in about.revised_prompts.items()}
        told = report_options(spec, offer, request)
        said = {
            "model": offer.name,
            "provider": offer.provider.name,
            **describe_result(about, told),
            "revised_prompts": revised,
        }
        return Outcome({**outcome.result, **said}, outcome.files, outcome.release)

    async def abandon(self, checkpoint: Mapping[str, Any], /) -> None:
        await abandon(checkpoint, self._providers, self._saver)

    async def discard(self, outcome: Outcome, /) -> None:
        await self._saver.discard(outcome)

    async def _at_once(self, offer: Offer, request: ImageRequest, paid: PaidAttempt) -> tuple[Outcome, About]:
        provider = offer.provider
        if not isinstance(provider, MakesImages):
            raise ProviderError(f"{provider.name} makes no pictures", provider=provider.name)
        return await paid.generate(provider, offer.provider.name, request, IMAGE)

    async def _by_operation(self, offer: Offer, request: ImageRequest, paid: PaidAttempt) -> tuple[Outcome, About]:
        provider = offer.provider
        if not isinstance(provider, RunsOperations):
            raise ProviderError(f"{provider.name} makes no pictures", provider=provider.name)
        operation = paid.operation or await paid.submit(provider, offer.provider.name, request)
        status = await paid.poll_until_completed(provider, operation)
        return await paid.fetch(provider, status, IMAGE)


def report_options(spec: ImageSpec, offer: Offer, request: ImageRequest) -> Told:
    """What became of the wishes of a spec."""
    told = offer.provider.told(request)
    unseen = ("partial_images",) if spec.partial_images and request.partial_images is None else ()
    return replace(told, ignored=(*told.ignored, *unseen))


def build_image_request(
    spec: ImageSpec, providers: Providers, inputs: tuple[Input, ...] = (), *, edits: bool = False
) -> tuple[Offer, ImageRequest]:
    """Who makes it, and the request in the provider's words. ``edits``: there must be a picture among the inputs.

    Raises:
        InvalidRequest, UnknownModel: ``context["param"]`` names the field.
    """
    offer = providers.offer(spec.model, Making.IMAGE)
    if edits and not any(each.role == "image" for each in inputs):
        raise InvalidRequest("there is no picture to edit", param="image")
    able = offer.model.images
    if able is not None and spec.n > able.max_n:
        raise InvalidRequest(f"{offer.name} makes at most {able.max_n} pictures at once", param="n")
    if spec.extra and not offer.model.generative:
        unknown = ", ".join(sorted(spec.extra))
        raise InvalidRequest(f"{offer.name} knows no {unknown}", param=sorted(spec.extra)[0])
    size = None if spec.size in {None, "auto"} else Size.parse(spec.size or "")
    request = ImageRequest(
        model=offer.model.id,
        prompt=spec.prompt,
        n=spec.n,
        size=size,
        quality=None if spec.quality == "auto" else spec.quality,
        background=None if spec.background == "auto" else spec.background,
        output_format=spec.output_format,
        output_compression=spec.output_compression,
        style=spec.style,
        moderation=spec.moderation,
        negative_prompt=spec.negative_prompt,
        seed=spec.seed,
        user=spec.user,
        inputs=inputs,
        partial_images=spec.partial_images if able is not None and able.partial_images else None,
        extra=spec.extra,
    )
    offer.provider.check(request)
    return offer, request
