"""What goes over the wire: requests and answers of the native routes. The contract of their fields is docs/api.md."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from mediagen.core.files import FileKind
from mediagen.core.progress import Stage
from mediagen.core.tasks import TaskStatus

Priority: TypeAlias = Annotated[int, Field(ge=0, le=100, description="0-100, higher first")]
TaskId: TypeAlias = Annotated[str, StringConstraints(pattern=r"^task_[0-9a-f]{32}$")]
PageSize: TypeAlias = Annotated[int, Field(ge=1, le=100, description="rows of a page")]
Order: TypeAlias = Annotated[Literal["asc", "desc"], Field(description="by creation time")]

MAX_BULK = 1000
"""Tasks of one bulk call."""


def _each_once(ids: object) -> object:
    """The same id twice is one, before they are counted."""
    return list(dict.fromkeys(ids)) if isinstance(ids, list) and all(isinstance(one, str) for one in ids) else ids


TaskIds: TypeAlias = Annotated[
    list[TaskId],
    Field(min_length=1, max_length=MAX_BULK),
    BeforeValidator(_each_once, json_schema_input_type=list[TaskId]),
]
"""Tasks by id."""


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
    """A picture that was made of a file."""

    name: str = Field(description="`thumbnail`, `spritesheet`")
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
    variants: list[VariantView] = Field(description="pictures that were made of it so far")


class TransferView(Said):
    """Bytes on the move: done and total of the present stage, rate over the last seconds."""

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
        None, description="seconds after `ended_at` before which trying again is of no use; null: not known"
    )


class TaskView(Said):
    """A task as it is now."""

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


class TaskPage(Page):
    data: list[TaskView]


class FilePage(Page):
    data: list[FileView]


class TaskFilter(Given):
    status: TaskStatus | None = None
    kind: str | None = Field(None, max_length=40)
    limit: PageSize = 20
    after: TaskId | None = None
    order: Order = "desc"


class FileFilter(Given):
    kind: FileKind | None = None
    limit: PageSize = 20
    after: str | None = Field(None, pattern=r"^file_[0-9a-f]{32}$")
    order: Order = "desc"


class Download(Given):
    """How the content is wanted."""

    download: bool = Field(False, description="as an attachment whatever it is")


class Linked(Given):
    """How the content is wanted by those who are given the ``url``."""

    download: bool = Field(False, description="url gives an attachment whatever it is, unless it is a CDN's")
    url_mode: Literal["link", "presigned"] = Field(
        "link", description="presigned: url is the bucket's own, for those who must not reach this server"
    )


class SignedLink(BaseModel):
    """The words of a link of ours. What others have added to it counts for nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    expires: str = Field("", description="the second in which the link ends (Unix time)")
    download: str = Field("", description="`true`: as an attachment whatever it is")
    signature: str = Field("", description="of all that the link says")


class NewPriority(Given):
    priority: Priority


class Edited(BaseModel):
    """Fields of the request to replace for the new attempt; none keeps it as it was."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Deletion(Given):
    media: bool = Field(False, description="also delete what the task made")


class Deleted(Said):
    id: str
    object: Literal["task"] = "task"
    deleted: Literal[True] = True


class Selection(Given):
    """Tasks by id; or those of one status for which the call can do something, the oldest first, so many at a time."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["ids"],
                    "properties": {"ids": {"type": "array"}, "status": {"type": "null"}, "after": {"type": "null"}},
                },
                {"required": ["status"], "properties": {"status": {"type": "string"}, "ids": {"type": "null"}}},
            ]
        }
    )

    ids: TaskIds | None = None
    status: TaskStatus | None = None
    after: TaskId | None = Field(None, description="with `status`: go on after this task, the `last_id` of an answer")

    @model_validator(mode="after")
    def _one_of_them(self) -> Selection:
        if (self.ids is None) == (self.status is None):
            raise ValueError("give either ids or status")
        if self.ids is not None and self.after is not None:
            raise ValueError("after goes with status")
        return self


class Refusal(Said):
    code: str
    message: str


class BulkItem(Said):
    """What became of one task of a bulk call: ``task`` when it was done, else ``error``."""

    id: str
    ok: bool
    task: TaskView | None = None
    error: Refusal | None = None


class BulkAnswer(Said):
    object: Literal["list"] = "list"
    data: list[BulkItem]
    has_more: bool = Field(description="more tasks of that status were left for a next call, with `after` = `last_id`")
    last_id: str | None


class TicketQuery(Given):
    """How a feed is opened."""

    ticket: str | None = Field(
        None, max_length=100, description="ticket of POST /v1/ws/tickets, for browsers: they can send no key"
    )


class Subscribe(Given):
    """Message of a WebSocket client: tell me of these tasks, beginning with a snapshot."""

    type: Literal["subscribe"]
    tasks: TaskIds | Literal["all"]
    after: int | None = Field(None, ge=0, description="the last sequence number that is known: tell what came later")


class Unsubscribe(Given):
    """Message of a WebSocket client: no more of these."""

    type: Literal["unsubscribe"]
    tasks: TaskIds | Literal["all"] = "all"


class Ping(Given):
    """Message of a WebSocket client that cannot see protocol pings; answered by ``pong``."""

    type: Literal["ping"]


class EventView(Said):
    """Message of the feed: a task changed."""

    type: str
    seq: int
    task_id: str
    task: TaskView


class SnapshotView(Said):
    """First message after a subscription: the tasks as they are.

    ``seq`` is where the events that follow begin: ``after``, when all that came later is told again, else the event
    up to which the snapshot holds everything. ``reset``: events between may be missing, the snapshot stands for them;
    such a one also comes later, to a reader that fell behind all that is remembered. ``missing``: ids that are unknown.
    ``has_more``: there are more live tasks than shown.
    """

    type: Literal["snapshot"] = "snapshot"
    seq: int
    reset: bool
    tasks: list[TaskView]
    missing: list[str]
    has_more: bool


class FeedError(Said):
    type: Literal["error"] = "error"
    code: str
    message: str


class Pong(Said):
    type: Literal["pong"] = "pong"
    seq: int


class Live(Said):
    status: Literal["ok"] = "ok"


class CheckView(Said):
    ok: bool
    detail: str | None = None


class ClockView(Said):
    """The clock that is believed."""

    object: Literal["clock"] = "clock"
    now: datetime


class Readiness(Said):
    status: Literal["ok", "unavailable"]
    checks: dict[str, CheckView]


class LagView(Said):
    """How late the event loop was, in milliseconds."""

    last_milliseconds: float
    max_milliseconds: float = Field(description="over the last minute")


class Health(Readiness):
    version: str
    uptime_seconds: float
    loop_lag: LagView
    tasks_live: int
    tasks_waiting: int
    feed_readers: int
    circuits_open: int = Field(description="providers that are not asked for now; the server takes work all the same")
