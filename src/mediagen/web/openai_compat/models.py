"""``/v1/models``: OpenAI's list, with the capabilities of each model."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from mediagen.core.errors import NotFound
from mediagen.providers.base import ImageAbilities, VideoAbilities
from mediagen.providers.registry import Offer, Providers
from mediagen.web.api.routing import Call, Empty, route
from mediagen.web.api.schemas import Said
from mediagen.web.http.path_aliases import plain

_CREATED: Final = 1_767_225_600
"""OpenAI's clients expect a time; vendors give none, so this is the release of this API."""


class ModelView(Said):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = Field(description="name of the provider")
    generative: bool = Field(description="false: drawn by rules, not by a trained model")
    images: dict[str, Any] | None = Field(description="options for images; null: the model makes none")
    videos: dict[str, Any] | None = Field(description="options for videos; null: the model makes none")


class ModelList(Said):
    object: Literal["list"] = "list"
    data: list[ModelView]


class ModelRoutes:
    """``/v1/models``."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers

    @route("GET", "/v1/models", "List models", answer=ModelList)
    async def list_models(self, _call: Call[Empty, Empty]) -> ModelList:
        return ModelList(data=[build_view(offer) for offer in self._providers.offers])

    @route("GET", "/v1/models/{id}", "Get a model", answer=ModelView, fails=(NotFound,), slashes=True)
    async def get_model(self, call: Call[Empty, Empty]) -> ModelView:
        """By any name that requests accept, also ``provider/model``."""
        offer = self._providers.named(plain(call.id))
        if offer is None:
            raise NotFound(f"there is no model {call.id[:100]}", field="model")
        return build_view(offer)


def build_view(offer: Offer) -> ModelView:
    """``try_write`` as it is shown."""
    model = offer.model
    return ModelView(
        id=offer.name,
        created=_CREATED,
        owned_by=offer.provider.name,
        generative=model.generative,
        images=None if model.images is None else _image_capabilities(model.images),
        videos=None if model.videos is None else _video_capabilities(model.videos),
    )


def _image_capabilities(able: ImageAbilities) -> dict[str, Any]:
    return {
        "max_n": able.max_n,
        "sizes": [str(size) for size in able.sizes] or None,
        "output_formats": list(able.formats) or None,
        "backgrounds": list(able.backgrounds) or None,
        "max_inputs": able.max_inputs,
        "masks": able.masks,
        "partial_images": able.partial_images,
    }


def _video_capabilities(able: VideoAbilities) -> dict[str, Any]:
    return {
        "sizes": [str(size) for size in able.sizes] or None,
        "seconds": list(able.seconds) or None,
        "max_seconds": able.max_seconds,
        "inputs": sorted(able.inputs),
        "remix": able.remix,
        "cancel": able.cancel,
    }
