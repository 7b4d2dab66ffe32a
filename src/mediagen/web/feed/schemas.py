"""Messages of the live feed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mediagen.web.api.schemas import Given, Said, TaskIds, TaskView


class TicketQuery(Given):
    """How a feed is opened."""

    ticket: str | None = Field(
        None, max_length=100, description="ticket of POST /v1/ws/tickets, for browsers: they can send no key"
    )


class Subscribe(Given):
    """Message of a WebSocket client: tell me of these tasks, beginning with a snapshot."""

    type: Literal["subscribe"]
    tasks: TaskIds | Literal["all"]
    after: int | None = Field(None, ge=0, description="the last sequence number that is known: tell what came later")


class Unsubscribe(Given):
    """Message of a WebSocket client: no more of these."""

    type: Literal["unsubscribe"]
    tasks: TaskIds | Literal["all"] = "all"


class Ping(Given):
    """Message of a WebSocket client that cannot see protocol pings; answered by ``pong``."""

    type: Literal["ping"]


class EventView(Said):
    """Message of the feed: a task changed."""

    type: str
    seq: int
    task_id: str
    task: TaskView


class SnapshotView(Said):
    """First message after a subscription: the tasks as they are.

    ``seq`` is where the events that follow begin: ``after``, when all that came later is told again, else the event
    up to which the snapshot holds everything. ``reset``: events between may be missing, the snapshot stands for them;
    such a one also comes later, to a reader that fell behind all that is remembered. ``missing``: ids that are unknown.
    ``has_more``: there are more live tasks than shown.
    """

    type: Literal["snapshot"] = "snapshot"
    seq: int
    reset: bool
    tasks: list[TaskView]
    missing: list[str]
    has_more: bool


class FeedError(Said):
    type: Literal["error"] = "error"
    code: str
    message: str


class Pong(Said):
    type: Literal["pong"] = "pong"
    seq: int
