"""Requests and responses of ``/v1/videos``, with the field names of OpenAI's API."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mediagen.core.tasks import Task, TaskStatus
from mediagen.pipelines.metadata import Metadata
from mediagen.providers.options import Prompt, SizeText, VideoOptions
from mediagen.web.api.schemas import Given, Order, PageSize, Priority, Said, without_empty
from mediagen.web.api.webhook_targets import Notified

_PREFIX: Final = "video_"
STATUS: Final = {
    TaskStatus.QUEUED: "queued",
    TaskStatus.RUNNING: "in_progress",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "failed",
    TaskStatus.TIMED_OUT: "failed",
}
"""OpenAI's clients know four states; ``task_status`` is exact."""


class VideoCreateRequest(VideoOptions[SizeText], Notified):
    """OpenAI's fields; unknown fields are passed to the provider. Null: the provider's default."""

    model_config = ConfigDict(extra="allow")

    duration: float | None = Field(None, gt=0, le=3600, description="alias of `seconds`, as a number")
    input_reference: Any = Field(
        None,
        description="image to begin with: a file in a form, or a URL, a data: URI, base64, the id of a file "
        'or an object {"image_url": …} or {"file_id": …}',
    )
    first_frame: Any = Field(None, description="alias of `input_reference`")
    last_frame: Any = Field(None, description="image to end with, given in the same way")
    metadata: Metadata | None = None
    priority: Priority | None = None
    timeout_seconds: float | None = Field(None, gt=0, description="time limit of one attempt")

    @model_validator(mode="before")
    @classmethod
    def _nothing_empty(cls, fields: Any) -> Any:
        return without_empty(fields, "prompt")


class RemixRequest(BaseModel):
    """A new video based on a finished one."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: Prompt


class VideoError(Said):
    code: str
    message: str


class VideoView(Said):
    """A video, or the job that makes it."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    task_status: TaskStatus = Field(description="the task's own status")
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    seconds: str | None
    size: str | None
    prompt: str | None
    remixed_from_video_id: str | None
    error: VideoError | None
    url: str | None = Field(description="URL of the video, once it is stored")
    file_id: str | None
    task_id: str
    metadata: dict[str, str] | None = None
    usage: dict[str, Any] | None = Field(None, description="the provider's own usage report")
    cost_usd: float | None = Field(None, description="as reported by the provider; null: it reports none")
    ignored: list[str] = Field([], description="request fields that the model does not support")
    adapted: dict[str, dict[str, Any]] = Field(
        {}, description="request fields that were translated, and what the provider was sent instead"
    )


class VideoPage(Said):
    object: Literal["list"] = "list"
    data: list[VideoView]
    has_more: bool
    first_id: str | None
    last_id: str | None


class VideoListQuery(Given):
    limit: PageSize = 20
    after: str | None = Field(None, pattern=r"^video_[0-9a-f]{32}$")
    order: Order = "desc"


class VideoContentQuery(Given):
    """Which content of a video to send."""

    variant: Literal["video", "thumbnail", "spritesheet"] = Field(
        "video", description="the video itself, one frame as WebP, or up to 25 frames in rows of five as JPEG"
    )


class VideoDeleted(Said):
    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


def task_id_of(video_id: str) -> str:
    """The id of the video's task."""
    return f"task_{video_id.removeprefix(_PREFIX)}" if video_id.startswith(_PREFIX) else video_id


def video_id_of(task: Task) -> str:
    """The id under which ``/v1/videos`` shows the task."""
    return f"{_PREFIX}{task.id.removeprefix('task_')}"
