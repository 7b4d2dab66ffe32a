"""Webhooks: who wants to be told that a task ended, and what it is signed with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final


class WebhookEvent(StrEnum):
    """Event types: the four ways a task ends; for videos also OpenAI's two types."""

    COMPLETED = "task.completed"
    FAILED = "task.failed"
    CANCELLED = "task.cancelled"
    TIMED_OUT = "task.timed_out"
    VIDEO_COMPLETED = "video.completed"
    VIDEO_FAILED = "video.failed"

    @property
    def of_films(self) -> bool:
        """Whether it speaks of a film, not of the task that made it."""
        return self.value.startswith("video.")


TASK_EVENTS: Final = tuple(event for event in WebhookEvent if not event.of_films)
VIDEO_EVENTS: Final = tuple(event for event in WebhookEvent if event.of_films)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where the end of a task is told, and which ends.

    ``base`` is scheme and host by which the one who made the task reached us: links in the payload begin with it.
    ``events`` are either those of tasks or those of films, so that an end is told once.
    """

    url: str
    base: str
    events: tuple[WebhookEvent, ...] = TASK_EVENTS


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret that payloads are signed with. ``text`` is ``whsec_`` and standard base64 (Standard Webhooks)."""

    text: str = field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    """When it signs nothing any more; None: it is the present one."""

    def signs(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at
