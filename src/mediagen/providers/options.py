"""The options of an image and those of a video, each named once.

Request models, stored specs and the requests that providers get derive from these two. ``size`` is text until a request
is built for a provider (``SizeText``), and pixels from then on (``base.Size``).
"""

from __future__ import annotations

from typing import Annotated, Final, Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MAX_PROMPT: Final = 32_000

Prompt: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)]
SizeText: TypeAlias = Annotated[str, StringConstraints(max_length=20)]
SizeT = TypeVar("SizeT")


def _one_if_null(count: object) -> object:
    return 1 if count is None else count


_Count: TypeAlias = Annotated[int, Field(ge=1, le=10)]


class ImageOptions(BaseModel, Generic[SizeT]):
    """Options of images. Null: the provider's default."""

    model_config = ConfigDict(frozen=True)

    prompt: Prompt
    model: str | None = Field(
        None, max_length=200, description="a name from GET /v1/models; null: the first model that can do it"
    )
    n: Annotated[_Count, BeforeValidator(_one_if_null, json_schema_input_type=_Count | None)] = 1
    size: SizeT | None = Field(None, description="WIDTHxHEIGHT or auto")
    quality: str | None = Field(None, max_length=40)
    background: Literal["transparent", "opaque", "auto"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: int | None = Field(None, ge=0, le=100)
    style: str | None = Field(None, max_length=40)
    moderation: str | None = Field(None, max_length=40)
    negative_prompt: str | None = Field(None, max_length=MAX_PROMPT)
    seed: int | None = None
    user: str | None = Field(None, max_length=512)
    partial_images: int | None = Field(
        None, ge=0, le=3, description="partial images to stream, if the model supports them"
    )


class VideoOptions(BaseModel, Generic[SizeT]):
    """Options of a video. Null: the provider's default."""

    model_config = ConfigDict(frozen=True)

    prompt: Prompt
    model: str | None = Field(
        None, max_length=200, description="a name from GET /v1/models; null: the first model that can do it"
    )
    seconds: float | None = Field(None, gt=0, le=3600)
    size: SizeT | None = Field(None, description="WIDTHxHEIGHT")
    fps: int | None = Field(None, ge=1, le=120)
    seed: int | None = None
    negative_prompt: str | None = Field(None, max_length=MAX_PROMPT)
    user: str | None = Field(None, max_length=512)
