"""Requests and answers of ``/v1/tasks``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mediagen.core.tasks import TaskStatus
from mediagen.web.api.schemas import Given, Order, Page, PageSize, Priority, Said, TaskId, TaskIds, TaskView


class TaskPage(Page):
    data: list[TaskView]


class TaskFilter(Given):
    status: TaskStatus | None = None
    kind: str | None = Field(None, max_length=40)
    limit: PageSize = 20
    after: TaskId | None = None
    order: Order = "desc"


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
