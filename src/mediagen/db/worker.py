"""A connection on a thread of its own, given whole functions instead of single statements."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

import aiosqlite

from mediagen.db.faults import unavailable

T = TypeVar("T")


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
            Unavailable: the disk or the file is at fault.
        """
        try:
            return await self.carry_out(lambda connection: _snapshot(connection, work))
        except sqlite3.Error as exc:
            fault = unavailable(exc)
            if fault is None:
                raise
            raise fault from exc


def _snapshot(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN")
    try:
        return work(connection)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
