"""Settings of webhooks."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from mediagen.events.webhooks.signing import MAX_SECRETS, decode_secret


def _secrets(value: SecretStr) -> SecretStr:
    texts = value.get_secret_value().split()
    if len(texts) > MAX_SECRETS:
        raise ValueError(f"at most {MAX_SECRETS} secrets sign at once")
    for text in texts:
        decode_secret(text)
    return value


class WebhooksSettings(BaseModel):
    """How the ends of tasks are told to webhooks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    secret: Annotated[SecretStr, AfterValidator(_secrets)] = Field(
        SecretStr(""),
        description="signing secret, whsec_ and base64; several, separated by spaces, all sign; "
        "empty: the server creates one and keeps it in the database, see mediagen webhooks rotate",
    )
    schedule_seconds: Annotated[
        tuple[Annotated[float, Field(ge=0, le=7 * 86_400)], ...], Field(min_length=1, max_length=20)
    ] = Field(
        (0, 5, 300, 1800, 7200, 18_000, 36_000),
        description="seconds to wait before each attempt of a delivery; after the last one it has failed",
    )
    timeout_seconds: float = Field(20, ge=1, le=60, description="limit of one attempt, in seconds")
