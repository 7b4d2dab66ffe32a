"""Rows of deliveries, their attempts, and URLs that want no more. Fits ``events.outbox.Outbox``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

from mediagen.core.deliveries import Delivery, DeliveryAttempt, DeliveryQuery, DeliverySnapshot, DeliveryStatus
from mediagen.core.webhooks import WebhookEvent
from mediagen.db.connection import Database
from mediagen.db.enqueue_deliveries import is_disabled
from mediagen.db.paging import Shown, page
from mediagen.db.rows import optional_time, time_of, time_text
from mediagen.db.tasks import task_of_snapshot

COLUMNS: Final = "id, type, task_id, task_attempt, owner, url, status, tries, step, created_at, due_at, ended_at"
KEPT_ATTEMPTS: Final = 50
"""Attempts of one delivery that are kept, the latest."""


class SqliteOutbox:
    """Deliveries of one database; ``db.endings`` adds them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shown = Shown()

    # -- for the webhook sender

    async def due(
        self, now: datetime, *, without: Collection[str], not_to: Collection[str], limit: int
    ) -> list[Delivery]:
        """At most ``limit`` that are due, the longest due first; none of these ids, none to these targets."""

        def read(connection: sqlite3.Connection) -> list[Delivery]:
            ids = _due(connection, time_text(now), without=without, not_to=not_to, limit=limit)
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM deliveries WHERE id IN (SELECT value FROM json_each(?)) "  # noqa: S608 - our names
                "ORDER BY due_at, created_at, rowid",
                (json.dumps(ids),),
            )
            return [delivery_of(row) for row in rows]

        return await self._database.read(read)

    async def load_snapshot(self, delivery: Delivery) -> DeliverySnapshot | None:
        """The delivery with the task as it ended; None when it is gone."""

        def read(connection: sqlite3.Connection) -> tuple[str, str] | None:
            found: tuple[str, str] | None = connection.execute(
                "SELECT task, omitted FROM deliveries WHERE id = ?", (delivery.id,)
            ).fetchone()
            return found

        found = await self._database.read(read)
        return (
            None
            if found is None
            else DeliverySnapshot(delivery, task_of_snapshot(found[0]), tuple(json.loads(found[1])))
        )

    async def next_due(self, *, without: Collection[str], not_to: Collection[str]) -> datetime | None:
        """When the next of the others is due; None: there is none."""

        def read(connection: sqlite3.Connection) -> datetime | None:
            ids = _due(connection, _NEVER, without=without, not_to=not_to, limit=1)
            if not ids:
                return None
            (text,) = connection.execute("SELECT due_at FROM deliveries WHERE id = ?", ids).fetchone()
            return time_of(text)

        return await self._database.read(read)

    async def shift(self, step: timedelta) -> None:
        """Everything that waits is due by so much later, or earlier when ``step`` is negative."""
        await self._database.write(
            lambda connection: (
                connection.execute(
                    f"UPDATE deliveries SET due_at = {_LATER} WHERE status = 'waiting'",  # noqa: S608 - our names
                    {"seconds": step.total_seconds()},
                ).rowcount
            )
        )

    async def pull(self, now: datetime, *, longest: timedelta) -> None:
        """Put right what waits since a moment that is yet to come: the clock went back. No wait is over ``longest``.

        A delivery waits since its last attempt, or since it was made.
        """

        def write(connection: sqlite3.Connection) -> None:
            since = (
                "coalesce((SELECT max(at) FROM delivery_attempts WHERE delivery_id = deliveries.id), "
                "deliveries.created_at)"
            )
            later = _LATER.replace(":seconds", f"(julianday(:now) - julianday({since})) * 86400.0")
            connection.execute(
                f"UPDATE deliveries SET due_at = {later} "  # noqa: S608 - our names
                f"WHERE status = 'waiting' AND due_at > :now AND {since} > :now",
                {"now": time_text(now)},
            )
            connection.execute(
                "UPDATE deliveries SET due_at = ? WHERE status = 'waiting' AND due_at > ?",
                (time_text(now + longest), time_text(now + longest)),
            )

        await self._database.write(write)

    async def waiting(self) -> int:
        """How many wait."""

        def read(connection: sqlite3.Connection) -> int:
            (count,) = connection.execute("SELECT value FROM totals WHERE name = 'deliveries_waiting'").fetchone()
            return int(count)

        return await self._database.read(read)

    async def attempted(
        self, delivery: Delivery, attempt: DeliveryAttempt, status: DeliveryStatus, due_at: datetime | None
    ) -> DeliveryStatus | None:
        """Record an attempt and what follows from it; gives where the delivery stands now, None when it is gone.

        ``disabled`` (the URL answered 410) disables the URL for its owner, and all that waits for it; while it is
        disabled nothing waits for it. What is ``delivered`` enables it again, unless it was on its way before.
        """

        def write(connection: sqlite3.Connection) -> DeliveryStatus | None:
            stands, due = status, due_at
            if stands is DeliveryStatus.WAITING and is_disabled(connection, delivery.owner, delivery.url):
                stands, due = DeliveryStatus.DISABLED, None
            row = connection.execute(
                "UPDATE deliveries SET status = ?, tries = tries + 1, step = ?, due_at = ?, ended_at = ? "
                "WHERE id = ? RETURNING tries",
                (
                    stands.value,
                    delivery.step + 1,
                    optional_time(due),
                    None if stands is DeliveryStatus.WAITING else time_text(attempt.at),
                    delivery.id,
                ),
            ).fetchone()
            if row is None:
                return None
            _add_attempt(connection, delivery.id, attempt, number=row[0])
            if status is DeliveryStatus.DISABLED:
                _disable(connection, delivery, attempt.at)
            elif status is DeliveryStatus.DELIVERED:
                connection.execute(
                    "DELETE FROM disabled_urls WHERE url = ? AND owner IS ? AND since < ?",
                    (delivery.url, delivery.owner, time_text(attempt.at)),
                )
            connection.execute(
                "DELETE FROM deliveries WHERE task_id = ? AND status <> 'waiting' "
                "AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = deliveries.task_id)",
                (delivery.task_id,),
            )
            return stands

        return await self._database.write(write)

    # -- for the edge

    async def get(self, delivery_id: str, *, owner: str | None = None) -> tuple[Delivery, list[DeliveryAttempt]] | None:
        """The delivery and its latest attempts in order; None: unknown, or another owner's."""

        def read(connection: sqlite3.Connection) -> tuple[Delivery, list[DeliveryAttempt]] | None:
            delivery = _found(connection, delivery_id, owner)
            if delivery is None:
                return None
            rows = connection.execute(
                "SELECT at, milliseconds, status_code, error, number FROM delivery_attempts WHERE delivery_id = ? "
                "ORDER BY number",
                (delivery_id,),
            )
            return delivery, [DeliveryAttempt(time_of(at), *rest) for at, *rest in rows]

        return await self._database.read(read)

    async def query(self, query: DeliveryQuery) -> tuple[list[Delivery], bool]:
        """A page of deliveries, and whether there are more. Raises InvalidRequest when ``after`` is unknown."""
        filters = {"task_id": query.task_id, "status": query.status, "owner": query.owner}
        rows, more = await self._database.read(
            lambda connection: page(
                connection,
                "deliveries",
                COLUMNS,
                filters,
                after=query.after,
                shown=self._shown,
                limit=query.limit,
                descending=True,
                narrow="task_id",
            )
        )
        return [delivery_of(row) for row in rows], more

    async def redeliver(self, delivery_id: str, now: datetime, *, owner: str | None = None) -> Delivery | None:
        """The delivery, due now, its schedule begun anew; None: unknown, or another owner's."""

        def write(connection: sqlite3.Connection) -> Delivery | None:
            if _found(connection, delivery_id, owner) is None:
                return None
            connection.execute(
                "UPDATE deliveries SET status = 'waiting', step = 0, due_at = ?, ended_at = NULL WHERE id = ?",
                (time_text(now), delivery_id),
            )
            return _found(connection, delivery_id, owner)

        return await self._database.write(write)


_LATER: Final = "strftime('%Y-%m-%dT%H:%M:%f000+00:00', due_at, printf('%+.3f seconds', :seconds))"
"""``due_at`` so many seconds later, to the millisecond, as ``time_text`` writes it."""

_NEVER: Final = "9999"
"""After every time of a row."""
_LOOKED_AT: Final = 200
"""Rows looked at in the order in which they are due, before each target is looked at by itself."""


def _due(
    connection: sqlite3.Connection, until: str, *, without: Collection[str], not_to: Collection[str], limit: int
) -> list[str]:
    """Ids of at most ``limit`` deliveries due by ``until``, the longest due first.

    A target that takes nothing now may have a million waiting at the head, so only the first few are looked at. When
    those do not suffice, the next step goes from target to target: its cost does not grow with what waits for each.
    """
    ids, targets = set(without), set(not_to)
    rows = connection.execute(
        "SELECT id, target FROM deliveries INDEXED BY deliveries_due WHERE status = 'waiting' AND due_at <= ? "
        "ORDER BY due_at, created_at LIMIT ?",
        (until, _LOOKED_AT),
    ).fetchall()
    left = [row[0] for row in rows if row[0] not in ids and row[1] not in targets][:limit]
    if len(left) == limit or len(rows) < _LOOKED_AT:
        return left
    found = connection.execute(
        "WITH RECURSIVE targets(target) AS ("
        "SELECT min(target) FROM deliveries INDEXED BY deliveries_due_to WHERE status = 'waiting' UNION ALL "
        "SELECT (SELECT min(target) FROM deliveries INDEXED BY deliveries_due_to "
        "WHERE status = 'waiting' AND target > targets.target) FROM targets WHERE targets.target IS NOT NULL) "
        "SELECT deliveries.id FROM targets JOIN deliveries ON deliveries.id IN ("
        "SELECT id FROM deliveries INDEXED BY deliveries_due_to "
        "WHERE status = 'waiting' AND target = targets.target AND due_at <= ?1 "
        "AND id NOT IN (SELECT value FROM json_each(?2)) ORDER BY due_at, created_at LIMIT ?4) "
        "WHERE targets.target IS NOT NULL AND targets.target NOT IN (SELECT value FROM json_each(?3)) "
        "ORDER BY deliveries.due_at, deliveries.created_at LIMIT ?4",
        (until, json.dumps(sorted(ids)), json.dumps(sorted(targets)), limit),
    )
    return [row[0] for row in found]


def _found(connection: sqlite3.Connection, delivery_id: str, owner: str | None) -> Delivery | None:
    row = connection.execute(
        f"SELECT {COLUMNS} FROM deliveries WHERE id = ?1 AND (?2 IS NULL OR owner = ?2)",  # noqa: S608 - our names
        (delivery_id, owner),
    ).fetchone()
    return None if row is None else delivery_of(row)


def _add_attempt(connection: sqlite3.Connection, delivery_id: str, attempt: DeliveryAttempt, *, number: int) -> None:
    connection.execute(
        "INSERT INTO delivery_attempts (delivery_id, number, at, milliseconds, status_code, error) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (delivery_id, number, time_text(attempt.at), attempt.milliseconds, attempt.status_code, attempt.error),
    )
    connection.execute(
        "DELETE FROM delivery_attempts WHERE delivery_id = ? AND number <= ?", (delivery_id, number - KEPT_ATTEMPTS)
    )


def _disable(connection: sqlite3.Connection, delivery: Delivery, at: datetime) -> None:
    if not is_disabled(connection, delivery.owner, delivery.url):
        connection.execute(
            "INSERT INTO disabled_urls (owner, url, since) VALUES (?, ?, ?)",
            (delivery.owner, delivery.url, time_text(at)),
        )
    connection.execute(
        "UPDATE deliveries SET status = 'disabled', due_at = NULL, ended_at = ? "
        "WHERE status = 'waiting' AND url = ? AND owner IS ?",
        (time_text(at), delivery.url, delivery.owner),
    )


def delivery_of(row: tuple[Any, ...]) -> Delivery:
    """The delivery of a row that begins with ``COLUMNS``."""
    return Delivery(
        id=row[0],
        type=WebhookEvent(row[1]),
        task_id=row[2],
        task_attempt=row[3],
        owner=row[4],
        url=row[5],
        status=DeliveryStatus(row[6]),
        tries=row[7],
        step=row[8],
        created_at=time_of(row[9]),
        due_at=None if row[10] is None else time_of(row[10]),
        ended_at=None if row[11] is None else time_of(row[11]),
    )
