"""Rows of tasks: the truth about them. Fits ``tasks.ports.Journal``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, Final

from mediagen.core.errors import Conflict
from mediagen.core.files import File
from mediagen.core.tasks import Task, TaskError, TaskQuery, TaskStatus
from mediagen.core.webhooks import Webhook, WebhookEvent
from mediagen.db.connection import Database
from mediagen.db.enqueue_deliveries import note_end
from mediagen.db.files import insert_file, used_for_another
from mediagen.db.paging import Shown, page
from mediagen.db.rows import json_of, json_text, optional_time, time_of, time_text

COLUMNS: Final = (
    "id, kind, lane, status, request, created_at, updated_at, priority, attempt, max_attempts, claims, version, "
    "timeout_seconds, started_at, ended_at, cancel_requested, result, error, checkpoint, owner, webhook"
)


class SqliteJournal:
    """Tasks of one database. ``first_delivery_seconds``: how long after its end a task's webhook is first tried."""

    def __init__(self, database: Database, *, first_delivery_seconds: float = 0) -> None:
        self._database = database
        self._shown = Shown()
        self._first_delivery_seconds = first_delivery_seconds

    async def insert(
        self, task: Task, *, files: Sequence[File] = (), key: str | None = None, fingerprint: str = ""
    ) -> str:
        """Add a task and its files; gives its id, or that of the task that was inserted under ``key`` before.

        Raises:
            Conflict: an id is taken.
            IdempotencyMismatch: the key came with another ``fingerprint``.
        """

        def write(connection: sqlite3.Connection) -> str:
            earlier = None if key is None else task_made(connection, key, fingerprint)
            if earlier is not None:
                return earlier
            try:
                connection.execute(
                    f"INSERT INTO tasks ({COLUMNS}) "  # noqa: S608 - our names
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row_of(task),
                )
            except sqlite3.IntegrityError as exc:
                raise Conflict("the task exists already", task_id=task.id, sqlite=str(exc)) from exc
            for file in files:
                insert_file(connection, file)
            if key is not None:
                connection.execute("INSERT INTO idempotency VALUES (?, ?, ?)", (key, fingerprint, task.id))
            if task.ended:
                self._note_end(connection, task)
            return task.id

        return await self._database.write(write)

    async def made(self, key: str, fingerprint: str) -> str | None:
        """The id of the task that was inserted under ``key``. Raises IdempotencyMismatch as ``insert`` does."""
        return await self._database.read(lambda connection: task_made(connection, key, fingerprint))

    async def get(self, task_id: str) -> Task | None:
        """The task, or None."""

        def read(connection: sqlite3.Connection) -> Task | None:
            row = connection.execute(f"SELECT {COLUMNS} FROM tasks WHERE id = ?", (task_id,)).fetchone()  # noqa: S608
            return None if row is None else task_of(row)

        return await self._database.read(read)

    async def query(self, query: TaskQuery) -> tuple[list[Task], bool]:
        """A page of tasks, and whether there are more. Raises InvalidRequest when ``after`` is unknown."""
        filters = {"status": query.status, "kind": query.kind, "owner": query.owner}
        every_kind = query.status is not None and query.kind is None
        rows, more = await self._database.read(
            lambda connection: page(
                connection,
                "tasks",
                COLUMNS,
                filters,
                after=query.after,
                shown=self._shown,
                limit=query.limit,
                descending=query.descending,
                merged="kind" if every_kind else "",
                only="attempt < max_attempts" if query.attempts_left else "",
            )
        )
        return [task_of(row) for row in rows], more

    async def save(self, task: Task, *, was: Task, files: Sequence[File] = ()) -> bool:
        """Write ``task`` over ``was`` with the files that it made; False when the row has moved on.

        The checkpoint is left as the row has it unless ``task`` changes it (``SqliteLedger`` writes it in between);
        the parts of an attempt that is over go with it.
        """

        def write(connection: sqlite3.Connection) -> bool:
            saved = connection.execute(
                "UPDATE tasks SET lane = ?, status = ?, updated_at = ?, priority = ?, attempt = ?, max_attempts = ?, "
                "claims = ?, version = ?, timeout_seconds = ?, started_at = ?, ended_at = ?, cancel_requested = ?, "
                "result = ?, error = ? WHERE id = ? AND version = ?",
                (
                    task.lane,
                    task.status.value,
                    time_text(task.updated_at),
                    task.priority,
                    task.attempt,
                    task.max_attempts,
                    task.claims,
                    task.version,
                    task.timeout_seconds,
                    optional_time(task.started_at),
                    optional_time(task.ended_at),
                    int(task.cancel_requested),
                    None if task.result is None else json_text(task.result),
                    None if task.error is None else json_text(asdict(task.error)),
                    task.id,
                    was.version,
                ),
            )
            if saved.rowcount != 1:
                return False
            if task.request is not was.request:
                connection.execute("UPDATE tasks SET request = ? WHERE id = ?", (json_text(task.request), task.id))
            over = task.ended or task.attempt != was.attempt
            if over or task.checkpoint != was.checkpoint:
                connection.execute(
                    "UPDATE tasks SET checkpoint = ? WHERE id = ?", (json_text(task.checkpoint), task.id)
                )
            if over:
                connection.execute("DELETE FROM upload_parts WHERE task_id = ?", (task.id,))
            for file in files:
                insert_file(connection, file)
            if task.ended and not was.ended:
                self._note_end(connection, task)
            return True

        return await self._database.write(write)

    async def delete(self, task_id: str) -> None:
        """Remove a task; its files stay and belong to no task."""
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM tasks WHERE id = ?", (task_id,)).rowcount
        )

    async def live(self) -> list[Task]:
        """All tasks that have not ended, oldest first."""

        def read(connection: sqlite3.Connection) -> list[Task]:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM tasks WHERE status IN ('queued', 'running') ORDER BY created_at, id"  # noqa: S608
            )
            return [task_of(row) for row in rows]

        return await self._database.read(read)

    async def purge(self, *, ended_before_iso: str, limit: int) -> int:
        """Delete at most ``limit`` tasks that ended before that time, oldest end first; gives their number.

        Their deliveries go with them; webhooks that were disabled before that time are given another chance.
        """
        before = time_text(datetime.fromisoformat(ended_before_iso))

        def write(connection: sqlite3.Connection) -> int:
            connection.execute("DELETE FROM disabled_urls WHERE since < ?", (before,))
            return connection.execute(
                "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE ended_at < ? ORDER BY ended_at LIMIT ?)",
                (before, limit),
            ).rowcount

        return await self._database.write(write)

    async def shrink(self, pages: int) -> int:
        """See ``Database.shrink``."""
        return await self._database.shrink(pages)

    def _note_end(self, connection: sqlite3.Connection, task: Task) -> None:
        if task.webhook is not None:
            note_end(connection, task, task.webhook, snapshot_of, delay=self._first_delivery_seconds)


def snapshot_of(task: Task) -> str:
    """The row of a task as one text; ``task_of_snapshot`` reads it, also after columns were added."""
    return json.dumps(dict(zip(COLUMNS.split(", "), row_of(task), strict=True)))


def task_of_snapshot(text: str) -> Task:
    row = json.loads(text)
    return task_of(tuple(row.get(name) for name in COLUMNS.split(", ")))


def task_made(connection: sqlite3.Connection, key: str, fingerprint: str) -> str | None:
    """The id of the task that was made under this key, or None. Raises IdempotencyMismatch."""
    row = connection.execute("SELECT fingerprint, task_id FROM idempotency WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    if row[0] != fingerprint:
        raise used_for_another()
    return str(row[1])


def row_of(task: Task) -> tuple[Any, ...]:
    """The row of ``COLUMNS`` of a task."""
    return (
        task.id,
        task.kind,
        task.lane,
        task.status.value,
        json_text(task.request),
        time_text(task.created_at),
        time_text(task.updated_at),
        task.priority,
        task.attempt,
        task.max_attempts,
        task.claims,
        task.version,
        task.timeout_seconds,
        optional_time(task.started_at),
        optional_time(task.ended_at),
        int(task.cancel_requested),
        None if task.result is None else json_text(task.result),
        None if task.error is None else json_text(asdict(task.error)),
        json_text(task.checkpoint),
        task.owner,
        None if task.webhook is None else json_text(asdict(task.webhook)),
    )


def task_of(row: tuple[Any, ...]) -> Task:
    """The task of a row of ``COLUMNS``."""
    return Task(
        id=row[0],
        kind=row[1],
        lane=row[2],
        status=TaskStatus(row[3]),
        request=json_of(row[4]),
        created_at=time_of(row[5]),
        updated_at=time_of(row[6]),
        priority=row[7],
        attempt=row[8],
        max_attempts=row[9],
        claims=row[10],
        version=row[11],
        timeout_seconds=row[12],
        started_at=None if row[13] is None else time_of(row[13]),
        ended_at=None if row[14] is None else time_of(row[14]),
        cancel_requested=bool(row[15]),
        result=None if row[16] is None else json_of(row[16]),
        error=None if row[17] is None else _error_of(json_of(row[17])),
        checkpoint=json_of(row[18]),
        owner=row[19],
        webhook=None if row[20] is None else webhook_of(json_of(row[20])),
    )


def _error_of(saved: Mapping[str, Any]) -> TaskError:
    """An error with the fields that this release knows; another one may have written more, or fewer."""
    known = {field.name: saved[field.name] for field in fields(TaskError) if field.name in saved}
    return TaskError(**{"code": "internal", "message": "", "retryable": False, "attempt": 1, **known})


def webhook_of(saved: Mapping[str, Any]) -> Webhook:
    return Webhook(saved["url"], saved["base"], tuple(WebhookEvent(word) for word in saved["events"]))
