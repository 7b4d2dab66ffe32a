"""A connection on a thread of its own, given whole functions instead of single statements."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import aiosqlite

from mediagen.db.errors import unavailable

T = TypeVar("T")

READ_SECONDS: Final = 5.0
"""The longest read; what takes longer is broken off, since others wait for the same connection."""
_STEPS: Final = 10_000
"""Instructions of SQLite between two looks at the clock."""


class Worker(aiosqlite.Connection):
    """A function runs from its start to its end with no other between: what it does is one unit.

    A caller that is cancelled does not stop the function; it ends by itself and nobody takes what it gives.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self.pending = 0
        """Functions given and not done, those of callers that have gone left out."""
        self._ending: asyncio.Future[Any] | None = None

    def stop(self) -> asyncio.Future[Any] | None:
        """Have the thread end; the future tells when it is about to."""
        self._ending = super().stop()
        return self._ending

    async def open(self) -> None:
        """Connect. Raises what the connector raises, once the thread has done its last: the loop may close next."""
        try:
            await self
        except BaseException:
            if self._ending is not None:
                await self._ending
            raise

    async def carry_out(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` gives; it runs on the connection's thread. Raises what it raises."""
        self.pending += 1
        try:
            result: T = await self._execute(self._work, work)  # type: ignore[no-untyped-call] # it has no annotations
        finally:
            self.pending -= 1
        return result

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return work(self._conn)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` reads, all of it from one state of the database.

        Raises:
            Unavailable: the disk or the file is at fault, or it took longer than ``READ_SECONDS``.
        """
        try:
            return await self.carry_out(lambda connection: _snapshot(connection, work))
        except sqlite3.Error as exc:
            fault = unavailable(exc)
            if fault is None:
                raise
            raise fault from exc


def _snapshot(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    end = time.monotonic() + READ_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    connection.execute("BEGIN")
    try:
        return work(connection)
    finally:
        connection.set_progress_handler(None, 0)
        if connection.in_transaction:
            connection.execute("ROLLBACK")
