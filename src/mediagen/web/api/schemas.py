"""What goes over the wire: requests and answers of the native routes. The contract of their fields is docs/api.md."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from mediagen.core.files import FileKind
from mediagen.core.progress import Stage
from mediagen.core.tasks import TaskStatus

Priority: TypeAlias = Annotated[int, Field(ge=0, le=100, description="0-100, higher first")]
TaskId: TypeAlias = Annotated[str, StringConstraints(pattern=r"^task_[0-9a-f]{32}$")]
PageSize: TypeAlias = Annotated[int, Field(ge=1, le=100, description="items per page")]
Order: TypeAlias = Annotated[Literal["asc", "desc"], Field(description="by creation time")]


def _each_once(ids: object) -> object:
    """The same id twice is one, before they are counted."""
    return list(dict.fromkeys(ids)) if isinstance(ids, list) and all(isinstance(one, str) for one in ids) else ids


class Given(BaseModel):
    """What callers send: unknown fields are errors, so that a misspelt one is not silently left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def without_empty(fields: Any, *kept: str) -> Any:
    """``fields`` without those that are an empty text, ``kept`` ones excepted: forms and settings left blank send them,
    and mean nothing by it."""
    if not isinstance(fields, dict):
        return fields
    return {name: value for name, value in fields.items() if value != "" or name in kept}


class Said(BaseModel):
    """What we answer. Fields that are not known are null, never left out."""

    model_config = ConfigDict(frozen=True)


class ChecksumView(Said):
    algorithm: str
    value: str


class VariantView(Said):
    """An image derived from a file."""

    name: str = Field(description="`thumbnail` or `spritesheet`")
    media_type: str
    bytes: int
    width: int | None
    height: int | None
    url: str


class FileView(Said):
    """A file in the store."""

    id: str
    object: Literal["file"] = "file"
    filename: str
    bytes: int
    media_type: str
    kind: FileKind
    sha256: str | None
    checksum: ChecksumView
    width: int | None
    height: int | None
    duration_seconds: float | None
    url: str
    url_expires_at: datetime | None
    created_at: datetime
    task_id: str | None
    variants: list[VariantView] = Field(description="images derived from the file so far")


class TransferView(Said):
    """Bytes of the present stage, done and in total, and the rate over the last seconds."""

    stage: Stage
    bytes_done: int
    bytes_total: int | None
    bytes_per_second: float


class TaskErrorView(Said):
    code: str
    message: str
    retryable: bool
    attempt: int
    detail: str | None
    retry_after: float | None = Field(
        None, description="seconds after `ended_at` before a retry can succeed; null: unknown"
    )


class TaskView(Said):
    """A task and its current state."""

    id: str
    object: Literal["task"] = "task"
    kind: str
    status: TaskStatus
    phase: str | None
    progress: int | None
    transfer: TransferView | None
    elapsed_seconds: float
    remaining_seconds: float | None
    attempt: int
    max_attempts: int
    priority: int
    queue_position: int | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    request: dict[str, Any]
    result: dict[str, Any] | None
    error: TaskErrorView | None
    webhook_url: str | None
    links: dict[str, str]


class Page(Said):
    """A page of a list; ask for the next one with ``after`` = ``last_id``."""

    object: Literal["list"] = "list"
    has_more: bool
    first_id: str | None
    last_id: str | None


MAX_BULK = 1000
"""Tasks of one bulk call."""


TaskIds: TypeAlias = Annotated[
    list[TaskId],
    Field(min_length=1, max_length=MAX_BULK),
    BeforeValidator(_each_once, json_schema_input_type=list[TaskId]),
]
"""Tasks by id."""
