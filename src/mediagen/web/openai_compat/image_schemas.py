"""What is sent to and said by ``/v1/images``, in the words of OpenAI's API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from mediagen.pipelines.metadata import Metadata
from mediagen.providers.options import ImageOptions, SizeText
from mediagen.web.api.schemas import Priority, Said, without_empty
from mediagen.web.api.webhook_targets import Notified


class ImageGenerateRequest(ImageOptions[SizeText], Notified):
    """What OpenAI's clients send, and fields of other providers, which are passed on. Null: the provider's default."""

    model_config = ConfigDict(extra="allow")

    response_format: Literal["url", "b64_json"] | None = Field(
        None, description="null: as the provider's settings say, which is both, a large image as a URL alone"
    )
    stream: bool | None = Field(None, description="server-sent events: heartbeats, then each image")
    metadata: Metadata | None = None
    priority: Priority | None = None
    timeout_seconds: float | None = Field(None, gt=0, description="limit of one attempt")

    @model_validator(mode="before")
    @classmethod
    def _nothing_empty(cls, fields: Any) -> Any:
        return without_empty(fields, "prompt")


class ImageEditRequest(ImageGenerateRequest):
    """The same, with pictures to edit or to go by."""

    image: Any = Field(
        None,
        description="one or several: files of a form (image, image[]); in JSON URLs, data: URIs, base64, ids of files "
        'or objects {"image_url": …} or {"file_id": …}',
    )
    images: Any = Field(None, description="the same by another name")
    mask: Any = Field(None, description="where to edit: a PNG with alpha, as large as the first picture")


class ImageData(Said):
    """A picture: where it is, or what it is."""

    url: str | None = None
    b64_json: str | None = None
    revised_prompt: str | None = None
    file_id: str


class ImagesResponse(Said):
    """Pictures."""

    created: int
    data: list[ImageData]
    model: str
    task_id: str
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None
    usage: dict[str, Any] | None = None
    cost_usd: float | None = Field(None, description="as the provider says; null: it does not")
    metadata: dict[str, str] | None = None
    ignored: list[str] = Field([], description="fields of the request that the model has no word for")
    adapted: dict[str, dict[str, Any]] = Field(
        {}, description="fields that the provider has other words for, and what it was asked for instead"
    )
