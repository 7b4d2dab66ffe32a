"""What a webhook is owed when a task ends: a row in the transaction that ends it, so neither is without the other."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from mediagen.core.deliveries import DeliveryStatus, event_of, target_of
from mediagen.core.files import new_id
from mediagen.core.tasks import Task
from mediagen.core.webhooks import Webhook
from mediagen.db.rows import json_text, time_text

MAX_REQUEST: Final = 64 * 1024
MAX_RESULT: Final = 256 * 1024
"""Bytes of a task's request and of its result as JSON that a delivery keeps; what has more is omitted, and says so."""


def note_end(
    connection: sqlite3.Connection, task: Task, webhook: Webhook, snapshot: Callable[[Task], str], *, delay: float
) -> None:
    """Add the delivery of an ended task inside the caller's transaction, due ``delay`` seconds after the end."""
    event, ended_at = event_of(task, webhook.events), task.ended_at
    if event is None or ended_at is None:
        return
    kept, omitted = _bounded(task)
    disabled = is_disabled(connection, task.owner, webhook.url)
    status = DeliveryStatus.DISABLED if disabled else DeliveryStatus.WAITING
    connection.execute(
        "INSERT INTO deliveries (id, type, task_id, task_attempt, owner, url, target, status, tries, step, created_at, "
        "due_at, ended_at, task, omitted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?)",
        (
            new_id("evt"),
            event.value,
            task.id,
            task.attempt,
            task.owner,
            webhook.url,
            target_of(webhook.url),
            status.value,
            time_text(ended_at),
            None if disabled else time_text(ended_at + timedelta(seconds=delay)),
            time_text(ended_at) if disabled else None,
            snapshot(kept),
            json.dumps(omitted),
        ),
    )


def is_disabled(connection: sqlite3.Connection, owner: str | None, url: str) -> bool:
    """Whether that URL answered 410 to that owner's events."""
    found = connection.execute("SELECT 1 FROM disabled_urls WHERE url = ? AND owner IS ?", (url, owner)).fetchone()
    return found is not None


def _bounded(task: Task) -> tuple[Task, list[str]]:
    """The task without its checkpoint and what is too large, and the names of the latter."""
    changes: dict[str, Any] = {"checkpoint": {}, "progress": None}
    omitted: list[str] = []
    if len(json_text(task.request)) > MAX_REQUEST:
        changes["request"] = {}
        omitted.append("request")
    if task.result is not None and len(json_text(task.result)) > MAX_RESULT:
        changes["result"] = None
        omitted.append("result")
    return replace(task, **changes), omitted
