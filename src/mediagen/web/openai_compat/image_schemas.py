"""Requests and responses of ``/v1/images``, with the field names of OpenAI's API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from mediagen.pipelines.metadata import Metadata
from mediagen.providers.options import ImageOptions, SizeText
from mediagen.web.api.schemas import Priority, Said, without_empty
from mediagen.web.api.webhook_targets import Notified


class ImageGenerateRequest(ImageOptions[SizeText], Notified):
    """OpenAI's fields; unknown fields are passed to the provider. Null: the provider's default."""

    model_config = ConfigDict(extra="allow")

    response_format: Literal["url", "b64_json"] | None = Field(
        None, description="null: the provider's setting; by default both, and a large image as a URL only"
    )
    stream: bool | None = Field(None, description="Server-Sent Events: heartbeats, then one event per image")
    metadata: Metadata | None = None
    priority: Priority | None = None
    timeout_seconds: float | None = Field(None, gt=0, description="time limit of one attempt")

    @model_validator(mode="before")
    @classmethod
    def _nothing_empty(cls, fields: Any) -> Any:
        return without_empty(fields, "prompt")


class ImageEditRequest(ImageGenerateRequest):
    """The same, with images to edit or to use as references."""

    image: Any = Field(
        None,
        description="one or several images: files in a form (image, image[]); in JSON URLs, data: URIs, base64, "
        'file ids or objects {"image_url": …} or {"file_id": …}',
    )
    images: Any = Field(None, description="alias of `image`")
    mask: Any = Field(None, description="where to edit: a PNG with an alpha channel, the size of the first image")


class ImageData(Said):
    """An image: its URL, its bytes as base64, or both."""

    url: str | None = None
    b64_json: str | None = None
    revised_prompt: str | None = None
    file_id: str


class ImagesResponse(Said):
    """Images."""

    created: int
    data: list[ImageData]
    model: str
    task_id: str
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None
    usage: dict[str, Any] | None = None
    cost_usd: float | None = Field(None, description="as reported by the provider; null: it reports none")
    metadata: dict[str, str] | None = None
    ignored: list[str] = Field([], description="request fields that the model does not support")
    adapted: dict[str, dict[str, Any]] = Field(
        {}, description="request fields that were translated, and what the provider was sent instead"
    )
