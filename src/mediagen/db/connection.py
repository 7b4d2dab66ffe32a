"""The database of one data directory: opened, checked, migrated; one writer and a few readers."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import structlog

from mediagen.core.errors import MediagenError, Unavailable
from mediagen.db.errors import DatabaseDamaged, code_of, unavailable
from mediagen.db.integrity import QUICK_BYTES, faults_of, is_as_left, left_as
from mediagen.db.lock import InstanceLock
from mediagen.db.migrations import Migration, migrate, migrations
from mediagen.db.worker import Worker
from mediagen.db.writer import CHECKPOINT_BYTES, Writer

log = structlog.get_logger(__name__)

T = TypeVar("T")

READERS: Final = 4
SECRET_BYTES: Final = 32
_INCREMENTAL: Final = 2
"""``PRAGMA auto_vacuum`` of a file that can be made smaller piece by piece."""
BUSY_SECONDS: Final = 5.0
"""How long a write waits for another process (a backup, somebody's shell) that holds the database."""


class Database:
    """``async with Database(path) as database``: SQLite in write-ahead mode, every commit synced to the disk.

    ``boot`` is the number of this start, ``instance_id`` a random word that stays with the data directory, as does
    ``link_secret``, 32 random bytes that sign links.

    Raises (on entering):
        DataDirInUse: another process works with it.
        DatabaseDamaged: the file is damaged or not ours.
        SchemaTooNew: a newer release has written it.
        Unavailable: the disk is full, read-only or broken.
    """

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS, steps: list[Migration] | None = None) -> None:
        self.path = path
        self.boot = 0
        self.instance_id = ""
        self.link_secret = b""
        self._busy_seconds = busy_seconds
        self._steps = steps
        self._lock = InstanceLock(path.with_name(f"{path.name}.lock"))
        self._worker: Worker | None = None
        self._writer: Writer | None = None
        self._running: asyncio.Task[None] | None = None
        self._readers: list[Worker] = []
        self._sound = True
        self._unchecked = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._worker = await self._open(Worker(self._open_writer))
            stack.push_async_callback(self._close_writer, self._worker)
            for _ in range(READERS):
                reader = await self._open(Worker(self._open_reader))
                stack.push_async_callback(reader.close)
                self._readers.append(reader)
            self._writer = Writer(self._worker, self.path.with_name(f"{self.path.name}-wal"))
            self._running = asyncio.get_running_loop().create_task(self._writer.run())
            stack.push_async_callback(self._finish, self._writer, self._running)
            if self._unchecked:
                stop = threading.Event()
                checking = asyncio.get_running_loop().create_task(self._check(stop))
                stack.push_async_callback(_end_check, checking, stop)
            self._stack = stack.pop_all()
        log.info("database_opened", path=str(self.path), boot=self.boot)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._readers.clear()
        log.info("database_closed")

    @property
    def healthy(self) -> bool:
        """No damage was found, and the last write worked; while none does, one a second is tried."""
        return (
            self._sound
            and self._writer is not None
            and self._writer.healthy
            and self._running is not None
            and not self._running.done()
        )

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` gives, carried out as one transaction and durable. See ``Writer.write``."""
        if self._writer is None:
            raise Unavailable("the database is not open")
        return await self._writer.write(work)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` reads, from one state of the database; it waits for no writer. Raises Unavailable."""
        if not self._readers:
            raise Unavailable("the database is not open")
        return await min(self._readers, key=lambda reader: reader.pending).read(work)

    # -- opening and closing

    async def _open(self, worker: Worker) -> Worker:
        try:
            await worker.open()
        except sqlite3.Error as exc:
            fault = unavailable(exc)
            if code_of(exc) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
                raise damaged(self.path, str(exc)) from exc
            if fault is None:
                raise
            raise fault from exc
        except OSError as exc:
            raise Unavailable(f"{self.path.parent} cannot be used for the database: {exc.strerror}") from exc
        return worker

    def _open_writer(self) -> sqlite3.Connection:
        """Runs on the writer's thread."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock.acquire()
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self.path.chmod(0o600)  # the log and its index get the mode of the database
            connection = sqlite3.connect(self.path, isolation_level=None, timeout=self._busy_seconds)
            connection.text_factory = _text
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        if not pages:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only an empty file takes it
        elif not is_as_left(self.path, self._lock.note):
            self._unchecked = self.path.stat().st_size > QUICK_BYTES
            if not self._unchecked and (found := faults_of(connection)):
                raise damaged(self.path, "; ".join(found))
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise Unavailable(f"{self.path} must lie on a local file system: SQLite's write-ahead log needs one")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_BYTES}")
        migrate(connection, self.path, migrations() if self._steps is None else self._steps)
        self._make_shrinkable(connection)
        (self.boot,) = connection.execute(
            "UPDATE meta SET value = value + 1 WHERE key = 'boots' RETURNING value"
        ).fetchone()
        # from the system's own source of randomness, which SQLite's randomblob() only begins with
        connection.execute(
            "UPDATE meta SET value = ? WHERE key = 'link_secret' AND value = x''", (secrets.token_bytes(SECRET_BYTES),)
        )
        (self.link_secret,) = connection.execute("SELECT value FROM meta WHERE key = 'link_secret'").fetchone()
        (self.instance_id,) = connection.execute("SELECT value FROM meta WHERE key = 'instance_id'").fetchone()

    def _open_reader(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=self._busy_seconds
        )
        connection.text_factory = _text
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _make_shrinkable(self, connection: sqlite3.Connection) -> None:
        """Rewrite a file of an earlier release, once, so that it can give back what deleted rows have left."""
        (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        if mode == _INCREMENTAL or self.path.stat().st_size > QUICK_BYTES:
            return
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("VACUUM")
        except sqlite3.Error as exc:
            if unavailable(exc) is None:
                raise
            log.warning("database_not_rewritten", error=str(exc))  # it works as before, and the next start tries again

    async def _check(self, stop: threading.Event) -> None:
        """Look for damage while the server runs; when there is any, it says so and takes no more work."""
        checker = Worker(self._open_reader)
        try:
            await self._open(checker)
            try:
                found = await checker.carry_out(lambda connection: faults_of(connection, stop))
            finally:
                await checker.close()
        except (sqlite3.Error, MediagenError) as exc:
            found = [str(exc)]
        if found:
            self._sound = False
            log.critical("database_damaged", error=damaged(self.path, "; ".join(found)).detail)
        elif not stop.is_set():
            self._unchecked = False
            log.info("database_checked")

    async def shrink(self, pages: int) -> int:
        """Give back to the disk at most ``pages`` pages that deleted rows have left; how many are still to go."""

        def work(connection: sqlite3.Connection) -> int:
            connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
            (mode,) = connection.execute("PRAGMA auto_vacuum").fetchone()
            (left,) = connection.execute("PRAGMA freelist_count").fetchone()
            return int(left) if mode == _INCREMENTAL else 0

        return await self.write(work)

    async def _finish(self, writer: Writer, running: asyncio.Task[None]) -> None:
        writer.finish()
        await running

    async def _close_writer(self, worker: Worker) -> None:
        emptied = False
        try:
            emptied = await worker.carry_out(_empty_log)
        finally:
            await worker.close()
            await asyncio.to_thread(self._leave, sound=emptied and self._sound and not self._unchecked)

    def _leave(self, *, sound: bool) -> None:
        """Give the lock back, and tell the next start whether the file has to be checked."""
        note = ""
        if sound:
            with suppress(OSError):
                note = left_as(self.path)
        self._lock.release(note)


async def _end_check(checking: asyncio.Task[None], stop: threading.Event) -> None:
    stop.set()
    await checking


def _text(data: bytes) -> str:
    """Text of a row. A byte that is no UTF-8 (another program wrote it) must not hide the rows beside it."""
    return data.decode(errors="replace")


def _empty_log(connection: sqlite3.Connection) -> bool:
    """Whether all of the write-ahead log is in the database now."""
    try:
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as exc:
        if unavailable(exc) is None:
            raise
        log.warning("checkpoint_failed", error=str(exc))  # the log stays and the next start reads it
        return False
    return not busy


def damaged(path: Path, found: str) -> DatabaseDamaged:
    """The error for a file that must not be worked with."""
    return DatabaseDamaged(
        f"{path} is damaged ({found}): put a copy in its place ({path.name}.v*.bak, or your own backup), "
        "or move it away to start empty"
    )
