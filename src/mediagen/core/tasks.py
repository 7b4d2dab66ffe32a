"""Tasks and the one table of their states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from mediagen.core.errors import Conflict
from mediagen.core.progress import Progress
from mediagen.core.webhooks import Webhook


class TaskStatus(StrEnum):
    """Status of a task. The last four are final; only a retry, which is a new attempt, leaves the last three."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


TERMINAL: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMED_OUT})
RETRYABLE: Final = frozenset({TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMED_OUT})

NEXT: Final[Mapping[TaskStatus, frozenset[TaskStatus]]] = {
    TaskStatus.QUEUED: frozenset({TaskStatus.RUNNING, TaskStatus.CANCELLED, TaskStatus.FAILED}),
    # back to queued: claimed again after a crash or a shutdown, or a new automatic attempt
    TaskStatus.RUNNING: TERMINAL | {TaskStatus.QUEUED},
    TaskStatus.COMPLETED: frozenset(),
    TaskStatus.FAILED: frozenset({TaskStatus.QUEUED}),
    TaskStatus.CANCELLED: frozenset({TaskStatus.QUEUED}),
    TaskStatus.TIMED_OUT: frozenset({TaskStatus.QUEUED}),
}


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why an attempt ended badly, in the words of the public contract."""

    code: str
    message: str
    retryable: bool
    attempt: int
    detail: str | None = None
    param: str | None = None
    """The field of the request that is at fault, when it is known."""
    retry_after: float | None = None
    """Seconds from the end of the attempt that the other side asked us to wait."""


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work. Immutable; ``registry`` alone makes the next value.

    ``attempt`` counts runs that somebody asked for (the first is 1); ``claims`` counts how often the present attempt
    was taken up again after a crash. ``version`` grows with every stored change, so that a late write cannot win.
    ``checkpoint`` is what a run needs to go on after a crash; it never leaves the server.
    """

    id: str
    kind: str
    lane: str
    status: TaskStatus
    request: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    priority: int = 50
    attempt: int = 1
    max_attempts: int = 3
    claims: int = 0
    version: int = 0
    timeout_seconds: float = 1800.0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancel_requested: bool = False
    result: dict[str, Any] | None = None
    error: TaskError | None = None
    checkpoint: dict[str, Any] = field(default_factory=dict)
    owner: str | None = None
    webhook: Webhook | None = None
    progress: Progress | None = None
    """The latest reading; lives in memory only."""

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    def to(self, status: TaskStatus, *, now: datetime, **changes: Any) -> Task:
        """The task after a move to ``status``.

        Raises:
            Conflict: the table has no such move.
        """
        if status not in NEXT[self.status]:
            raise Conflict(f"task is {self.status}, cannot become {status}", task_id=self.id)
        return replace(self, status=status, updated_at=now, version=self.version + 1, **changes)


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """A page of tasks. ``after`` is the last id of the page before; the order is by creation time, then id.

    ``attempts_left``: only those that have not had all their attempts.
    """

    status: TaskStatus | None = None
    kind: str | None = None
    limit: int = 20
    after: str | None = None
    descending: bool = True
    owner: str | None = None
    attempts_left: bool = False
