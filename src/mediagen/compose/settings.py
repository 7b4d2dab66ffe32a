"""Settings of compositions."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mediagen.streams.base import GIB, MIB


class ComposeSettings(BaseModel):
    """What films are made with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache_bytes: int = Field(
        4 * GIB,
        ge=64 * MIB,
        description="bytes of rendered windows, speech and prepared media to keep, so that an edit "
        "of a video renders little; the least recently used go first",
    )
