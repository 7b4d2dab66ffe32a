"""What a call that waited for a task says when the task failed."""

from __future__ import annotations

import pytest

from mediagen.core.clock import utc_now
from mediagen.core.tasks import Task, TaskError, TaskStatus
from mediagen.web.http.problems import answer
from mediagen.web.openai_compat.submission import error_from_task


def failed(error: TaskError) -> Task:
    now = utc_now()
    task = Task("task_1", "image", "image", TaskStatus.QUEUED, {}, created_at=now, updated_at=now)
    return task.to(TaskStatus.RUNNING, now=now).to(TaskStatus.FAILED, now=now, ended_at=now, error=error)


@pytest.mark.parametrize(
    ("error", "status", "after"),
    [
        (TaskError("internal", "the server stopped 5 times", True, 1), 500, None),
        (TaskError("provider_rate_limited", "later", True, 1, retry_after=6.2), 429, "7"),
        (TaskError("invalid_request", "no such size", False, 1, param="size"), 400, None),
        (TaskError("gone_in_2.0", "something", False, 1), 500, None),
    ],
)
def test_it_says_what_the_task_says(error: TaskError, status: int, after: str | None) -> None:
    said = answer(error_from_task(failed(error)), path="/v1/images/generations", request_id="r")

    assert said.text is not None
    assert f'"message": "{error.message}"' in said.text
    assert ('"param": "size"' in said.text) is (error.param == "size")
    assert (said.status, said.headers.get("Retry-After")) == (status, after)
    assert said.headers["x-mediagen-task"] == "task_1"
