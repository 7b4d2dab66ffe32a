"""Images: a provider makes them, and they are saved in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import ConfigDict, Field

from mediagen.core.errors import InvalidRequest, ProviderError
from mediagen.core.files import FileKind
from mediagen.pipelines.base import Outcome, Run
from mediagen.pipelines.derive import derive
from mediagen.pipelines.inputs import MAX_INPUTS, InputLoader, InputRef
from mediagen.pipelines.metadata import Metadata
from mediagen.pipelines.paid_attempt import PaidAttempt
from mediagen.pipelines.paid_checkpoint import abandon
from mediagen.pipelines.paid_results import describe_result
from mediagen.pipelines.previews import Previews
from mediagen.pipelines.saving.saver import Saver
from mediagen.providers.base import (
    About,
    EffectiveOptions,
    ImageRequest,
    MakesImages,
    Making,
    Role,
    RunsOperations,
    Size,
)
from mediagen.providers.options import ImageOptions, SizeText
from mediagen.providers.registry import Offer, Providers

_CHOOSABLE: Final = ("quality", "background")
"""Options that may be ``auto``, which leaves them to the provider."""


class ImageSpec(ImageOptions[SizeText]):
    """The request of an image task, as its row keeps it."""

    model_config = ConfigDict(extra="forbid")

    inputs: tuple[InputRef, ...] = Field((), max_length=MAX_INPUTS)
    metadata: Metadata | None = None
    extra: dict[str, Any] = Field(default_factory=dict)

    @property
    def roles(self) -> list[Role]:
        """What the inputs are for."""
        return [each.role for each in self.inputs]


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
        inputs = await self._inputs.load(spec.inputs, owner=run.owner)
        offer, request = build_image_request(spec, self._providers, spec.roles)
        request = request.model_copy(update={"inputs": inputs})
        paid = PaidAttempt(
            run,
            self._providers,
            self._saver,
            FileKind.IMAGE,
            generative=offer.model.generative,
            previews=self._previews,
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
            raise ProviderError(f"{provider.name} makes no images", provider=provider.name)
        return await paid.generate(provider, offer.provider.name, request)

    async def _by_operation(self, offer: Offer, request: ImageRequest, paid: PaidAttempt) -> tuple[Outcome, About]:
        provider = offer.provider
        if not isinstance(provider, RunsOperations):
            raise ProviderError(f"{provider.name} makes no images", provider=provider.name)
        operation = paid.operation or await paid.submit(provider, offer.provider.name, request)
        status = await paid.poll_until_completed(provider, operation)
        return await paid.fetch(provider, status)


def report_options(spec: ImageSpec, offer: Offer, request: ImageRequest) -> EffectiveOptions:
    """Which options of a spec the provider ignores or adapts."""
    told = offer.provider.effective_options(request)
    unseen = ("partial_images",) if spec.partial_images and request.partial_images is None else ()
    return replace(told, ignored=(*told.ignored, *unseen))


def build_image_request(spec: ImageSpec, providers: Providers, roles: Sequence[Role]) -> tuple[Offer, ImageRequest]:
    """Who makes the images, and the request for them, checked; its inputs, which have these ``roles``, are left out.

    Raises:
        InvalidRequest, UnknownModel: ``context["param"]`` names the field.
    """
    offer = providers.offer(spec.model, Making.IMAGE)
    able = offer.model.images
    if able is not None and spec.n > able.max_n:
        raise InvalidRequest(f"{offer.name} makes at most {able.max_n} images at once", param="n")
    if spec.extra and not offer.model.generative:
        unknown = ", ".join(sorted(spec.extra))
        raise InvalidRequest(f"{offer.name} does not support {unknown}", param=sorted(spec.extra)[0])
    request = derive(
        ImageRequest,
        spec,
        model=offer.model.id,
        size=parse_size(spec.size),
        inputs=(),
        partial_images=spec.partial_images if able is not None and able.partial_images else None,
        **{name: None for name in _CHOOSABLE if getattr(spec, name) == "auto"},
    )
    offer.provider.check(request, roles)
    return offer, request


def parse_size(text: str | None) -> Size | None:
    """The size in pixels; None: the provider chooses. Raises InvalidRequest: it is not ``WIDTHxHEIGHT``."""
    return None if text is None or text == "auto" else Size.parse(text)
