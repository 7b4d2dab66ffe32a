"""The time that is believed, kept over restarts."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import datetime
from typing import Final

import structlog

from mediagen.core.clock import Clock
from mediagen.core.errors import Unavailable
from mediagen.db.connection import Database
from mediagen.db.rows import time_of, time_text

log = structlog.get_logger(__name__)

NOTE_SECONDS: Final = 60.0


_NEWEST: Final = """
SELECT max(moment) FROM (
    SELECT max(ended_at) AS moment FROM tasks
    UNION ALL SELECT max(created_at) FROM tasks
    UNION ALL SELECT max(created_at) FROM files WHERE variant_of IS NULL
)
"""


def known_time(connection: sqlite3.Connection) -> datetime | None:
    """The time that an earlier start believed last; where none recorded one, that of the newest row. None: no rows."""
    for question in ("SELECT value FROM meta WHERE key = 'known_time'", _NEWEST):
        row = connection.execute(question).fetchone()
        if row is not None and row[0]:
            return time_of(row[0])
    return None


async def last_known(database: Database) -> datetime | None:
    """See ``known_time``. Raises Unavailable."""
    return await database.read(known_time)


async def note(database: Database, clock: Clock) -> None:
    """Record the time that is believed. Raises Unavailable."""
    text = time_text(clock.known())
    await database.write(
        lambda connection: connection.execute("INSERT OR REPLACE INTO meta VALUES ('known_time', ?)", (text,)).rowcount
    )


async def confirm(database: Database, clock: Clock) -> None:
    """Believe the wall clock from now on, also after a restart. Raises Unavailable."""
    clock.confirm()
    log.info("clock_confirmed", time=clock.now().isoformat())
    await note(database, clock)


async def watch(database: Database, clock: Clock) -> None:
    """Look at the clock and record the time each minute, until cancelled."""
    in_doubt = False
    while True:
        doubt = clock.doubt()
        if doubt is not None and not in_doubt:
            log.warning("clock_in_doubt", ahead_seconds=round(doubt.total_seconds()), known=clock.known().isoformat())
        elif doubt is None and in_doubt:
            log.info("clock_believed", time=clock.now().isoformat())
        in_doubt = doubt is not None
        try:
            await note(database, clock)
        except Unavailable as exc:
            log.debug("time_not_noted", error=exc.detail)
        await asyncio.sleep(NOTE_SECONDS)
