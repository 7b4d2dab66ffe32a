"""Ingest: any URL into the store (``bring``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from mediagen.core.files import FileKind
from mediagen.net.policy import check_text
from mediagen.pipelines.base import Outcome, Run
from mediagen.pipelines.saving.saver import SaveOptions, Saver
from mediagen.streams.json.scanner import parse_pointer


class IngestSpec(BaseModel):
    """What to bring in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, StringConstraints(min_length=1, max_length=4096, strip_whitespace=True)]
    field: str | None = None
    kind: FileKind | None = None
    filename: str | None = Field(default=None, max_length=255)

    @field_validator("url")
    @classmethod
    def _allowed(cls, url: str) -> str:
        check_text(url)
        return url

    @field_validator("field")
    @classmethod
    def _is_pointer(cls, field: str | None) -> str | None:
        if field is not None:
            parse_pointer(field)
        return field


class IngestPipeline:
    """Fits ``pipelines.base.Pipeline``."""

    kind = "ingest"
    lane = "ingest"
    spec = IngestSpec

    def __init__(self, saver: Saver) -> None:
        self._saver = saver

    async def run(self, spec: IngestSpec, run: Run, /) -> Outcome:
        return await self._saver.save_url(spec.url, SaveOptions(spec.kind, spec.filename, spec.field), run)

    async def abandon(self, checkpoint: Mapping[str, Any], /) -> None:
        await self._saver.remove(checkpoint)

    async def discard(self, outcome: Outcome, /) -> None:
        await self._saver.discard(outcome)
