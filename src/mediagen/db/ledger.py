"""What running transfers must remember over a crash. Fits ``pipelines.base.Ledger``."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from mediagen.db.connection import Database
from mediagen.db.rows import json_of, json_text
from mediagen.streams.base import StoredPart


class SqliteLedger:
    """Checkpoints, parts and debts of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def checkpoint(self, task_id: str, attempt: int, checkpoint: Mapping[str, Any]) -> None:
        """Replace the checkpoint of that attempt; ignored when the attempt is over."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE tasks SET checkpoint = ? WHERE id = ? AND attempt = ? AND ended_at IS NULL",
                (json_text(checkpoint), task_id, attempt),
            )

        await self._database.write(write)

    async def record_part(self, task_id: str, attempt: int, part: StoredPart) -> None:
        """Add a stored part, or replace it; ignored when the attempt is over.

        An attempt that gets on is no danger to the server: its claims are counted from here again.
        """

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO upload_parts (task_id, attempt, number, size, crc32, token) "
                "SELECT id, attempt, ?, ?, ?, ? FROM tasks WHERE id = ? AND attempt = ? AND ended_at IS NULL",
                (part.number, part.size, part.crc32, part.token, task_id, attempt),
            )
            connection.execute(
                "UPDATE tasks SET claims = 0 WHERE id = ? AND attempt = ? AND ended_at IS NULL AND claims > 0",
                (task_id, attempt),
            )

        await self._database.write(write)

    async def parts(self, task_id: str, attempt: int) -> list[StoredPart]:
        """The stored parts of that attempt in ascending order."""

        def read(connection: sqlite3.Connection) -> list[StoredPart]:
            rows = connection.execute(
                "SELECT number, size, crc32, token FROM upload_parts WHERE task_id = ? AND attempt = ? ORDER BY number",
                (task_id, attempt),
            )
            return [StoredPart(*row) for row in rows]

        return await self._database.read(read)

    async def forget_parts(self, task_id: str) -> None:
        """Forget all parts of a task."""
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM upload_parts WHERE task_id = ?", (task_id,)).rowcount
        )

    async def owe_abort(self, state: Mapping[str, Any]) -> int:
        """Remember something in the store to remove later; the same state is owed once and keeps its id."""
        return await self._database.write(lambda connection: _owe(connection, state))

    async def owed_aborts(self, limit: int, *, after: int = 0) -> list[tuple[int, Mapping[str, Any]]]:
        """The oldest debts with ids above ``after``, each with its id."""

        def read(connection: sqlite3.Connection) -> list[tuple[int, Mapping[str, Any]]]:
            rows = connection.execute(
                "SELECT id, state FROM owed_aborts WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
            )
            return [(row[0], json_of(row[1])) for row in rows]

        return await self._database.read(read)

    async def looked(self, debt_id: int, *, more: int) -> int:
        """How often a debt was looked for, with ``more`` looks added; 0 when it is settled."""

        def write(connection: sqlite3.Connection) -> int:
            changed = "UPDATE owed_aborts SET looks = looks + ? WHERE id = ? RETURNING looks"
            row = connection.execute(changed, (more, debt_id)).fetchone()
            return 0 if row is None else int(row[0])

        def read(connection: sqlite3.Connection) -> int:
            row = connection.execute("SELECT looks FROM owed_aborts WHERE id = ?", (debt_id,)).fetchone()
            return 0 if row is None else int(row[0])

        return await (self._database.write(write) if more else self._database.read(read))

    async def settle_abort(self, debt_id: int, *, owing: Sequence[Mapping[str, Any]] = ()) -> None:
        """Forget a debt, and owe others in its place."""

        def write(connection: sqlite3.Connection) -> None:
            for state in owing:
                _owe(connection, state)
            connection.execute("DELETE FROM owed_aborts WHERE id = ?", (debt_id,))

        await self._database.write(write)


def _owe(connection: sqlite3.Connection, state: Mapping[str, Any]) -> int:
    """The id of the debt, to be looked for as often as a new one."""
    owed = "INSERT INTO owed_aborts (state) VALUES (?) ON CONFLICT (state) DO UPDATE SET looks = 0 RETURNING id"
    (debt_id,) = connection.execute(owed, (json_text(state, canonical=True),)).fetchone()
    return int(debt_id)
