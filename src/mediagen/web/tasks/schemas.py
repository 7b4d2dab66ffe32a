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
    """Request fields to replace for the new attempt; an empty body changes nothing."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Deletion(Given):
    media: bool = Field(False, description="also delete the files that the task made")


class Deleted(Said):
    id: str
    object: Literal["task"] = "task"
    deleted: Literal[True] = True


class Selection(Given):
    """Tasks by id, or by status: the oldest 1,000 with that status that the call can change."""

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
    after: TaskId | None = Field(
        None, description="with `status`: continue after this task, the `last_id` of the previous response"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Selection:
        if (self.ids is None) == (self.status is None):
            raise ValueError("give either ids or status")
        if self.ids is not None and self.after is not None:
            raise ValueError("after can only be used with status")
        return self


class Refusal(Said):
    code: str
    message: str


class BulkItem(Said):
    """The outcome for one task of a bulk call: ``task`` if it was changed, else ``error``."""

    id: str
    ok: bool
    task: TaskView | None = None
    error: Refusal | None = None


class BulkAnswer(Said):
    object: Literal["list"] = "list"
    data: list[BulkItem]
    has_more: bool = Field(
        description="whether tasks with that status are left; call again with `after` set to `last_id`"
    )
    last_id: str | None
