"""Messages of the live feed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mediagen.web.api.schemas import Given, Said, TaskIds, TaskView


class TicketQuery(Given):
    """How a feed is opened."""

    ticket: str | None = Field(
        None, max_length=100, description="ticket from POST /v1/ws/tickets, for browsers, which cannot send a key here"
    )


class Subscribe(Given):
    """Message of a WebSocket client: tell me of these tasks, beginning with a snapshot."""

    type: Literal["subscribe"]
    tasks: TaskIds | Literal["all"]
    after: int | None = Field(
        None, ge=0, description="the last sequence number you received; later events are sent again"
    )


class Unsubscribe(Given):
    """Message of a WebSocket client: no more of these."""

    type: Literal["unsubscribe"]
    tasks: TaskIds | Literal["all"] = "all"


class Ping(Given):
    """Message of a WebSocket client that cannot see protocol pings; answered by ``pong``."""

    type: Literal["ping"]


class EventView(Said):
    """Feed message: a task changed."""

    type: str
    seq: int
    task_id: str
    task: TaskView


class SnapshotView(Said):
    """First message after a subscription: the tasks as they are now.

    ``seq``: the events that follow have later numbers; with ``after`` it is that number, and missed events are sent
    again. ``reset``: events may have been lost, so replace your state by this snapshot; the server also sends one at
    any later time to a connection that fell too far behind. ``missing``: ids that are unknown. ``has_more``: there are
    more live tasks than shown.
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
