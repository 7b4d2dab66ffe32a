"""How an attempt ends: the state and the error that a cancel, a limit, an exception stand for."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import structlog

from mediagen.core.errors import Conflict, DeadlineExceeded, MediagenError, TaskCancelled, first_cause
from mediagen.core.tasks import Task, TaskError, TaskStatus

log = structlog.get_logger(__name__)


def cancelled(task: Task) -> TaskError:
    """What a cancelled task says."""
    return TaskError("cancelled", "cancelled on request", retryable=True, attempt=task.attempt)


def timed_out(task: Task) -> TaskError:
    """What a task says that took longer than it may."""
    message = f"not done within {task.timeout_seconds:g} seconds"
    return TaskError("timeout", message, retryable=True, attempt=task.attempt)


def poisoned(task: Task, claims: int) -> TaskError:
    """What a task says that was running at so many crashes and got nowhere between them."""
    message = f"the server stopped {claims} times while this task ran; it is not taken up again by itself"
    return TaskError("internal", message, retryable=True, attempt=task.attempt)


def unknown_kind(task: Task) -> TaskError:
    """What a task says that was taken in by a server with more kinds of tasks."""
    return TaskError("internal", f"this server has no {task.kind} tasks", retryable=False, attempt=task.attempt)


def cancel_of(task: Task, now: datetime) -> Task:
    """The task with a cancel asked for: ended at once while it waits, marked while it runs, itself when asked again.

    Raises:
        Conflict: it ended otherwise.
    """
    if task.status is TaskStatus.CANCELLED or (task.cancel_requested and not task.ended):
        return task
    if task.status is TaskStatus.RUNNING:
        return replace(task, cancel_requested=True, updated_at=now, version=task.version + 1)
    if task.ended:
        raise Conflict(f"the task is {task.status} already", task_id=task.id)
    return task.to(
        TaskStatus.CANCELLED, now=now, ended_at=now, cancel_requested=True, checkpoint={}, error=cancelled(task)
    )


def verdict_of(task: Task, exc: BaseException | None) -> tuple[TaskStatus, TaskError]:
    """What an exception stands for; None: the pipeline cancelled itself, a fault of ours."""
    cause = first_cause(exc) if exc is not None else None
    if isinstance(cause, TaskCancelled):
        return TaskStatus.CANCELLED, cancelled(task)
    if isinstance(cause, MediagenError):
        status = TaskStatus.TIMED_OUT if isinstance(cause, DeadlineExceeded) else TaskStatus.FAILED
        log.info("attempt_failed", code=cause.code, error=cause.detail, context=cause.context)
        param = cause.context.get("param")
        return status, TaskError(
            cause.code,
            cause.detail,
            cause.retryable,
            task.attempt,
            param=param if isinstance(param, str) else None,
            retry_after=cause.retry_after,
        )
    log.error("attempt_crashed", exc_info=exc)
    return TaskStatus.FAILED, TaskError("internal", "an error of the server; see its log", True, task.attempt)
