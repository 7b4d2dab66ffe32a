"""Rows of API keys."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from mediagen.core.errors import Conflict
from mediagen.core.keys import Key, Scope
from mediagen.db.connection import Database
from mediagen.db.rows import optional_time, time_of, time_text

COLUMNS: Final = "id, name, owner, scopes, digest, created_at, expires_at, revoked_at, replaced_by, last_used_at"


class SqliteKeys:
    """Keys of one database: few, so they are read all at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[Key]:
        """Every key that ever was, the oldest first."""

        def read(connection: sqlite3.Connection) -> list[Key]:
            rows = connection.execute(f"SELECT {COLUMNS} FROM keys ORDER BY created_at, id")  # noqa: S608 - our names
            return [_key_of(row) for row in rows]

        return await self._database.read(read)

    async def insert(self, key: Key) -> None:
        """Add a key. Raises Conflict when its name is in use."""
        await self._database.write(lambda connection: _insert(connection, key))

    async def replace(self, old: Key, new: Key) -> None:
        """Write ``old``, which ``new`` replaces, and add ``new``, in one transaction."""

        def write(connection: sqlite3.Connection) -> None:
            _update(connection, old)
            _insert(connection, new)

        await self._database.write(write)

    async def update(self, key: Key) -> None:
        """Write what can change of a key: its end."""
        await self._database.write(lambda connection: _update(connection, key))

    async def used(self, moments: Mapping[str, datetime]) -> None:
        """Note when keys were last used."""
        rows = [(time_text(moment), key_id) for key_id, moment in moments.items()]
        await self._database.write(
            lambda connection: connection.executemany("UPDATE keys SET last_used_at = ? WHERE id = ?", rows).rowcount
        )


def _insert(connection: sqlite3.Connection, key: Key) -> None:
    try:
        connection.execute(
            f"INSERT INTO keys ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our names
            (
                key.id,
                key.name,
                key.owner,
                json.dumps(sorted(key.scopes)),
                key.digest,
                time_text(key.created_at),
                optional_time(key.expires_at),
                optional_time(key.revoked_at),
                key.replaced_by,
                optional_time(key.last_used_at),
            ),
        )
    except sqlite3.IntegrityError as exc:
        raise Conflict(f"there is a key {key.name} already; rotate it, revoke it or choose another name") from exc


def _update(connection: sqlite3.Connection, key: Key) -> None:
    connection.execute(
        "UPDATE keys SET expires_at = ?, revoked_at = ?, replaced_by = ? WHERE id = ?",
        (optional_time(key.expires_at), optional_time(key.revoked_at), key.replaced_by, key.id),
    )


def _key_of(row: tuple[Any, ...]) -> Key:
    return Key(
        id=row[0],
        name=row[1],
        owner=row[2],
        scopes=frozenset(Scope(word) for word in json.loads(row[3])),
        digest=row[4],
        created_at=time_of(row[5]),
        expires_at=None if row[6] is None else time_of(row[6]),
        revoked_at=None if row[7] is None else time_of(row[7]),
        replaced_by=row[8],
        last_used_at=None if row[9] is None else time_of(row[9]),
    )
