"""The one writer: whole transactions, in the order they came, several of them in one commit.

Each function runs under its own savepoint inside a common ``BEGIN IMMEDIATE … COMMIT``. One that raises is undone
alone. Nobody is answered before the commit is on the disk. When the disk is at fault the whole group is undone and
everybody gets ``Unavailable``; until a commit works again the writer tries an empty one each second by itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from mediagen.core.errors import Unavailable
from mediagen.db.errors import code_of, unavailable
from mediagen.db.worker import Worker

log = structlog.get_logger(__name__)

T = TypeVar("T")

MAX_WAITING: Final = 1024
"""Writes that may wait; more wait before they are queued."""
MAX_GROUP: Final = 256
PROBE_SECONDS: Final = 1.0
CHECKPOINT_WRITES: Final = 512
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
PASSIVE: Final = "PRAGMA wal_checkpoint(PASSIVE)"


@dataclass(frozen=True, slots=True)
class Job:
    """A transaction and the one who waits for it."""

    work: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """What a function raised, for the one who gave it."""

    exc: Exception


class Writer:
    """Owns the writing connection: nobody else writes, and nobody else checkpoints."""

    def __init__(self, worker: Worker, wal: Path) -> None:
        self._worker = worker
        self._wal = wal
        self._jobs: deque[Job] = deque()
        self._group: Sequence[Job] = ()
        self._slots = asyncio.Semaphore(MAX_WAITING)
        self._wake = asyncio.Event()
        self._closing = False
        self._since_checkpoint = 0
        self.healthy = True
        """The last commit worked."""

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` gives, once all it did is durable. It runs on the writer's thread and must not commit.

        It may run a second time when the disk was full for its group: what it does, it does in the database alone.

        A caller that is cancelled leaves either the whole transaction or nothing.

        Raises:
            Unavailable: the disk or the file is at fault, or the database is closed; nothing was written.
            Exception: what ``work`` raised; nothing of it was written.
        """
        async with self._slots:
            if self._closing:
                raise Unavailable("the database is closed")
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self._jobs.append(Job(work, future))
            self._wake.set()
            return await future

    async def run(self) -> None:
        """Carry out what comes, until ``finish``; everything queued by then is done."""
        try:
            while self._jobs or not self._closing:
                if not self._jobs:
                    await self._rest()
                    continue
                self._group = [self._jobs.popleft() for _ in range(min(MAX_GROUP, len(self._jobs)))]
                await self._answer(self._group)
        finally:
            self._closing = True
            for job in (*self._group, *self._jobs):  # only after a fault of ours: nobody waits for ever
                if not job.future.done():
                    job.future.set_exception(Unavailable("the database is closed"))

    def finish(self) -> None:
        """Take nothing more, and end ``run`` when all is done."""
        self._closing = True
        self._wake.set()

    async def _rest(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(None if self.healthy else PROBE_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            await self._answer([Job(_probe, future)])
            future.exception()  # healthy says it

    async def _answer(self, group: Sequence[Job]) -> None:
        group = [job for job in group if not job.future.done()]  # whose callers have not gone
        works = [job.work for job in group]
        try:
            results, wal_bytes = await self._worker.carry_out(partial(_commit_together, works=works, wal=self._wal))
        except sqlite3.Error as exc:
            if code_of(exc) == sqlite3.SQLITE_FULL and len(group) > 1:
                for job in group:  # a large one may be to blame: the small ones can still fit
                    await self._answer([job])
                return
            self._failed(group, exc)
            return
        if not self.healthy:
            log.info("database_writable_again")
        self.healthy = True
        for job, result in zip(group, results, strict=True):
            if job.future.done():
                continue
            if isinstance(result, Failed):
                job.future.set_exception(result.exc)
            else:
                job.future.set_result(result)
        self._since_checkpoint += len(group)
        if self._since_checkpoint >= CHECKPOINT_WRITES or wal_bytes >= CHECKPOINT_BYTES:
            await self._checkpoint()

    def _failed(self, group: Sequence[Job], exc: sqlite3.Error) -> None:
        fault = unavailable(exc)
        if fault is not None:
            if self.healthy:
                log.error("database_not_writable", error=str(exc))
            self.healthy = False
        for job in group:
            if not job.future.done():
                failure = unavailable(exc) or exc
                failure.__cause__ = exc if failure is not exc else None
                job.future.set_exception(failure)

    async def _checkpoint(self) -> None:
        """Move what is in the write-ahead log into the database, as far as no reader needs it; waits for nobody."""
        self._since_checkpoint = 0
        try:
            await self._worker.carry_out(lambda connection: connection.execute(PASSIVE).fetchone())
        except sqlite3.Error as exc:
            if unavailable(exc) is None:
                raise
            log.warning("checkpoint_failed", error=str(exc))


def _probe(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE meta SET value = value WHERE key = 'boots'")


def _commit_together(
    connection: sqlite3.Connection, works: Sequence[Callable[[sqlite3.Connection], Any]], wal: Path
) -> tuple[list[Any | Failed], int]:
    """What each function gave or raised, and the size of the write-ahead log."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = [_under_savepoint(connection, work) for work in works]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results, wal.stat().st_size


def _under_savepoint(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> Any | Failed:
    connection.execute("SAVEPOINT work")
    try:
        result = work(connection)
    except Exception as exc:
        disk = isinstance(exc, sqlite3.Error) and unavailable(exc) is not None
        if (
            disk or not connection.in_transaction
        ):  # SQLite has undone the whole transaction, or cannot be trusted with it
            raise
        connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")
        return Failed(exc)
    connection.execute("RELEASE work")
    return result
