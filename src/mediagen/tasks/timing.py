"""Figures derived from a task's timestamps; none of them is stored."""

from __future__ import annotations

from datetime import datetime

from mediagen.core.tasks import Task


def elapsed_seconds(task: Task, now: datetime) -> float:
    """Seconds since the present attempt first started, up to its end; 0 before it starts.

    The time in which the server was down between a crash and the restart counts.
    """
    if task.started_at is None:
        return 0.0
    return max(0.0, ((task.ended_at or now) - task.started_at).total_seconds())


def remaining_seconds(task: Task) -> float | None:
    """Estimate for a running task; None when it cannot be known."""
    if task.ended or task.progress is None:
        return None
    if task.progress.remaining_seconds is not None:
        return task.progress.remaining_seconds
    return task.progress.transfer.remaining_seconds if task.progress.transfer is not None else None


def poll_after_seconds(task: Task, now: datetime) -> int | None:
    """When a client that polls should ask again (Retry-After); grows with the task's age. None: it has ended."""
    if task.ended:
        return None
    age = (now - task.created_at).total_seconds()
    for limit, seconds in ((10, 1), (60, 2), (600, 5), (3600, 15)):
        if age < limit:
            return seconds
    return 30
