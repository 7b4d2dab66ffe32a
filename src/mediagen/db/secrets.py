"""The secrets that webhooks are signed with, in ``meta``. Fits ``events.secrets.SecretRows``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from mediagen.core.webhooks import SigningSecret
from mediagen.db.connection import Database
from mediagen.db.rows import optional_time, time_of, time_text

KEY: Final = "webhook_secrets"


class SqliteSecrets:
    """Secrets of one database. They lie there as they are: who signs must know them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[SigningSecret]:
        """Those that were kept last, the newest first; none before the first start."""

        def read(connection: sqlite3.Connection) -> list[SigningSecret]:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (KEY,)).fetchone()
            return [
                SigningSecret(text, time_of(created), None if expires is None else time_of(expires))
                for text, created, expires in ([] if row is None else json.loads(row[0]))
            ]

        return await self._database.read(read)

    async def keep(self, secrets: Sequence[SigningSecret]) -> None:
        """Put these in the place of all others."""
        value = json.dumps([[one.text, time_text(one.created_at), optional_time(one.expires_at)] for one in secrets])
        await self._database.write(
            lambda connection: (
                connection.execute(
                    "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                    (KEY, value),
                ).rowcount
            )
        )
