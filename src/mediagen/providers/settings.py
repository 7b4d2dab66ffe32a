"""Settings of the providers."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from yarl import URL

ProviderType = Literal["builtin", "openai", "minimax", "google", "replicate", "fal"]
Engine = Literal["openai", "localai", "sdcpp", "vllm-omni", "sglang", "generic"]

BUILTIN: Final = "builtin"


class ProviderSettings(BaseModel):
    """One provider. Its name is the key of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: ProviderType = Field(description="whose API it speaks")
    base_url: str = Field(default="", description="URL of its API; empty: the vendor's own")
    api_key: SecretStr = Field(default=SecretStr(""), description="sent to that origin only")
    models: tuple[str, ...] = Field(
        default=(), description="models that clients may use; 'name=vendor/model' gives a model another name"
    )
    enabled: bool = Field(default=True, description="whether it is used")
    engine: Engine = Field(default="openai", description="for type openai: the actual server, for its quirks")
    answer_seconds: float = Field(
        default=600.0, gt=0, description="limit for the response to a call that makes something"
    )
    stall_seconds: float = Field(default=60.0, gt=0, description="longest silence in the middle of a response")
    response_format: Literal["both", "url", "b64_json"] = Field(
        default="both", description="format of images in responses if the request does not choose one"
    )
    picture_fields: dict[str, str] = Field(
        default_factory=dict,
        description="for replicate and fal: the field that takes several images, by the vendor's name of the model",
    )
    unsettled_seconds: float = Field(
        default=60.0,
        ge=0,
        description="how long the provider may not know a job, or its result once done (400, 404, 409, 425)",
    )
    max_parallel: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="for all types but builtin: most paid calls in flight; fewer while the provider rejects more",
    )
    parallel: int = Field(default=1, ge=1, le=16, description="for type builtin: videos drawn at once")

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, text: str) -> str:
        if not text:
            return text
        url = URL(text)
        if url.scheme not in ("http", "https") or not url.host or url.user or url.query_string or url.fragment:
            raise ValueError("must be an http(s) URL without user, query and fragment")
        return text.rstrip("/")

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr) -> SecretStr:
        text = key.get_secret_value().strip()
        if not text.isascii() or not text.isprintable():
            raise ValueError("must be printable ASCII, since it is sent in a header")
        return SecretStr(text)

    @field_validator("models")
    @classmethod
    def _are_names(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        for model in models:
            if not all(part.strip() for part in model.split("=", 1)):
                raise ValueError(f"not a model: {model!r}")
        return models

    @model_validator(mode="after")
    def _fits_its_type(self) -> ProviderSettings:
        if self.type == BUILTIN and (self.base_url or self.models or self.api_key.get_secret_value()):
            raise ValueError("the built-in provider has no base_url, api_key or models")
        return self

    @property
    def named_models(self) -> dict[str, str]:
        """The vendor's name of each model by the name that callers use."""
        pairs = (model.split("=", 1) for model in self.models)
        return {pair[0].strip(): pair[-1].strip() for pair in pairs}
