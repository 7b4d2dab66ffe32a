"""Ingest: saves what a URL gives in the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from mediagen.core.files import FileKind
from mediagen.net.policy import check_text
from mediagen.pipelines.base import Outcome, Run
from mediagen.pipelines.saving.saver import SaveOptions, Saver
from mediagen.streams.json.scanner import parse_pointer


def _check_url(url: str) -> str:
    check_text(url)
    return url


def _check_pointer(pointer: str) -> str:
    parse_pointer(pointer)
    return pointer


SourceUrl: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=4096, strip_whitespace=True), AfterValidator(_check_url)
]


class IngestOptions(BaseModel):
    """What to fetch, and how to keep it."""

    model_config = ConfigDict(frozen=True)

    url: SourceUrl | None = Field(None, description="http(s) URL to download")
    field: Annotated[str, StringConstraints(max_length=1024), AfterValidator(_check_pointer)] | None = Field(
        None, description="JSON pointer (RFC 6901): the URL returns JSON; store the base64 text found there"
    )
    kind: FileKind | None = Field(None, description="required kind; other content is rejected")
    filename: str | None = Field(None, max_length=255, description="file name to store")


class IngestSpec(IngestOptions):
    """The request of an ingest task, as its row keeps it."""

    model_config = ConfigDict(extra="forbid")

    url: SourceUrl


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
