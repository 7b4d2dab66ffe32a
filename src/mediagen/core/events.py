"""Events: facts about tasks, told in order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mediagen.core.tasks import Task


class EventType(StrEnum):
    """``task.status`` is a fact and is never dropped; ``task.progress`` is a reading, replaced by a later one."""

    STATUS = "task.status"
    PROGRESS = "task.progress"
    DELETED = "task.deleted"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a task; ``task`` is its value just after.

    ``seq`` grows strictly over the life of the data directory, also across restarts (the number of the start is in
    its upper bits), and stays below 2**53 so that JavaScript reads it exactly.
    """

    seq: int
    type: EventType
    task: Task

    @property
    def task_id(self) -> str:
        return self.task.id
