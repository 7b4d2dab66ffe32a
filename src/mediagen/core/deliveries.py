"""Deliveries: the end of a task on its way to a webhook."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit

from mediagen.core.tasks import Task, TaskStatus
from mediagen.core.webhooks import WebhookEvent


class DeliveryStatus(StrEnum):
    """``waiting``: retried until ``delivered`` or finally ``failed``. ``disabled``: the receiver responded with 410."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One request to a webhook.

    ``number`` counts from 1. ``status_code`` None: no answer came. ``error`` is a word; None: it was taken.
    """

    at: datetime
    milliseconds: int
    status_code: int | None = None
    error: str | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one webhook. ``id`` (``evt_…``) stays the same however often it is tried.

    ``tries`` counts all requests, ``step`` those since the schedule began, which a redelivery begins anew.
    """

    id: str
    type: WebhookEvent
    task_id: str
    task_attempt: int
    owner: str | None
    url: str
    status: DeliveryStatus
    tries: int
    step: int
    created_at: datetime
    due_at: datetime | None
    """When it is tried next; None unless it waits."""
    ended_at: datetime | None

    @property
    def target(self) -> str:
        """Scheme, host and port: deliveries of one target wait for each other."""
        return target_of(self.url)


@dataclass(frozen=True, slots=True)
class DeliverySnapshot:
    """A delivery with the task as it ended. ``omitted``: fields of the task that were too large to be kept with it."""

    delivery: Delivery
    task: Task
    omitted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """A page of deliveries. ``after`` is the last id of the page before; the newest come first."""

    task_id: str | None = None
    status: DeliveryStatus | None = None
    limit: int = 20
    after: str | None = None
    owner: str | None = None


def target_of(url: str) -> str:
    """Scheme, host and port of a URL, lower case."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def event_of(task: Task, wanted: Collection[WebhookEvent]) -> WebhookEvent | None:
    """What the end of ``task`` is called, in the words of those ``wanted``; None: it is none of them."""
    done = task.status is TaskStatus.COMPLETED
    names = (
        WebhookEvent(f"task.{task.status}"),
        WebhookEvent.VIDEO_COMPLETED if done else WebhookEvent.VIDEO_FAILED,
    )
    return next((name for name in names if name in wanted), None)
