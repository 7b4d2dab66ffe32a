"""What lists cost as tables grow: instructions of SQLite, which no busy machine changes."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.deliveries import DeliveryQuery, DeliveryStatus
from mediagen.core.files import FileKind, FileQuery
from mediagen.core.tasks import TaskQuery, TaskStatus
from mediagen.db import worker
from mediagen.db.connection import Database
from mediagen.db.files import SqliteFiles
from mediagen.db.outbox import SqliteOutbox
from mediagen.db.rows import time_text
from mediagen.db.tasks import SqliteJournal

SMALL, LARGE = 500, 20_000
MOST = 1.5
"""A table forty times as large may cost so much more: an index of one level more is a few instructions."""
START = datetime(2026, 1, 1, tzinfo=UTC)
LATEST = datetime(2027, 1, 1, tzinfo=UTC)
KINDS = ["ingest", "image", "video"]
BUSY, QUICK = "busy.example", "quick.example"


def at(number: int) -> str:
    return time_text(START + timedelta(seconds=number))


def fill(path: Path, rows: int) -> None:
    """Mostly ended tasks and files of one owner; what is rare is the oldest. Most deliveries wait for one target."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    common = range(rows)
    connection.executemany(
        "INSERT INTO tasks (id, kind, lane, status, request, created_at, updated_at, priority, attempt, max_attempts, "
        "claims, version, timeout_seconds, started_at, ended_at, cancel_requested, checkpoint, owner) "
        "VALUES (?1, ?2, 'l', ?3, '{}', ?4, ?4, 50, 1, 3, 0, 1, 1800.0, ?4, ?5, 0, '{}', ?6)",
        (
            (
                f"task_{n:032x}",
                KINDS[n % 3] if n < 9 else "ingest",
                "failed" if n < 9 else "completed",
                at(n),
                at(n),
                "other" if n < 3 else "me",
            )
            for n in common
        ),
    )
    connection.executemany(
        "INSERT INTO files (id, key, filename, bytes, media_type, kind, checksum_algorithm, checksum_value, "
        "created_at, etag, owner, metadata, variant_of, variant) "
        "VALUES (?1, ?1, 'f', 1, 'video/mp4', ?2, 'crc32', '0', ?3, 'e', ?4, '{}', ?5, ?6)",
        (
            row
            for n in common
            for row in (
                (f"file_{n:032x}", "image" if n < 9 else "video", at(n), "other" if n < 3 else "me", None, None),
                (f"file_{n:031x}v", "image", at(n), "me", f"file_{n:032x}", "thumbnail"),
            )
        ),
    )
    connection.executemany(
        "INSERT INTO deliveries (id, type, task_id, task_attempt, owner, url, target, status, tries, step, "
        "created_at, due_at, ended_at, task, omitted) "
        "VALUES (?1, 'task.completed', ?2, 1, ?3, 'https://x/', ?4, ?5, 0, 0, ?6, ?7, ?8, '{}', '[]')",
        (
            (
                f"evt_{n:032x}",
                f"task_{n:032x}",
                "other" if n < 3 else "me",
                QUICK if n > rows - 3 else BUSY,
                "delivered" if n < 9 else "waiting",
                at(n),
                None if n < 9 else at(n),
                at(n) if n < 9 else None,
            )
            for n in common
        ),
    )
    connection.commit()
    connection.close()


@asynccontextmanager
async def grown(folder: Path, rows: int) -> AsyncIterator[Database]:
    path = folder / f"{rows}.db"
    async with Database(path):
        pass
    fill(path, rows)
    async with Database(path) as database:
        yield database


class Count:
    """Instructions of all reads inside the block."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.steps = 0
        genuine = worker._snapshot

        def counted(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]) -> Any:
            def under(inner: sqlite3.Connection) -> Any:
                inner.set_progress_handler(self._step, 1)
                return work(inner)

            return genuine(connection, under)

        patch.setattr(worker, "_snapshot", counted)

    def _step(self) -> int:
        self.steps += 1
        return 0


Asks = Callable[[Database, int], Awaitable[Any]]


def task_lists() -> Any:
    for status, kind, owner, turned, later in itertools.product(
        [None, TaskStatus.FAILED, TaskStatus.QUEUED, TaskStatus.COMPLETED],
        [None, "image", "compose"],
        [None, "me", "other", "nobody"],
        [True, False],
        [True, False],
    ):

        async def ask(database: Database, rows: int, query: Any = (status, kind, owner, turned, later)) -> None:
            status, kind, owner, turned, later = query
            after = f"task_{rows // 2:032x}" if later and owner in {None, "me"} else None
            found = TaskQuery(status=status, kind=kind, owner=owner, descending=turned, after=after, limit=20)
            await SqliteJournal(database).query(found)

        words = (
            f"status={status}",
            f"kind={kind}",
            f"owner={owner}",
            "newest" if turned else "oldest",
            f"after={later}",
        )
        yield pytest.param(ask, id=" ".join(("tasks", *words)))


def file_lists() -> Any:
    for kind, owner, turned, later in itertools.product(
        [None, FileKind.IMAGE, FileKind.AUDIO], [None, "me", "other", "nobody"], [True, False], [True, False]
    ):

        async def ask(database: Database, rows: int, query: Any = (kind, owner, turned, later)) -> None:
            kind, owner, turned, later = query
            after = f"file_{rows // 2:032x}" if later and owner in {None, "me"} else None
            await SqliteFiles(database).query(
                FileQuery(kind=kind, owner=owner, descending=turned, after=after, limit=20)
            )

        words = (f"kind={kind}", f"owner={owner}", "newest" if turned else "oldest", f"after={later}")
        yield pytest.param(ask, id=" ".join(("files", *words)))


def delivery_lists() -> Any:
    for task, status, owner, later in itertools.product(
        [None, f"task_{100:032x}"],
        [None, DeliveryStatus.DELIVERED, DeliveryStatus.DISABLED],
        [None, "me", "other", "nobody"],
        [True, False],
    ):

        async def ask(database: Database, rows: int, query: Any = (task, status, owner, later)) -> None:
            task, status, owner, later = query
            after = f"evt_{rows // 2:032x}" if later and owner in {None, "me"} else None
            await SqliteOutbox(database).query(
                DeliveryQuery(task_id=task, status=status, owner=owner, after=after, limit=20)
            )

        words = (f"task={task is not None}", f"status={status}", f"owner={owner}", f"after={later}")
        yield pytest.param(ask, id=" ".join(("deliveries", *words)))


def outbox_reads() -> Any:
    for without, not_to in itertools.product(
        [[], [f"evt_{n:032x}" for n in range(9, 60)]], [[], [BUSY], [BUSY, QUICK]]
    ):

        async def due(database: Database, rows: int, left: Any = (without, not_to)) -> None:
            found = await SqliteOutbox(database).due(LATEST, without=left[0], not_to=left[1], limit=32)
            assert len(found) == {0: 32, 1: 2, 2: 0}[len(left[1])]

        async def next_due(database: Database, rows: int, left: Any = (without, not_to)) -> None:
            found = await SqliteOutbox(database).next_due(without=left[0], not_to=left[1])
            assert (found is None) == (len(left[1]) == 2)

        for name, ask in (("due", due), ("next_due", next_due)):
            yield pytest.param(ask, id=f"{name} without={len(without)} not_to={len(not_to)}")

    async def waiting(database: Database, rows: int) -> None:
        assert await SqliteOutbox(database).waiting() == rows - 9

    yield pytest.param(waiting, id="waiting")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lists")


async def test_a_page_costs_the_same_in_a_table_of_any_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One test for all: filling the tables takes longer than asking."""
    asked = [*task_lists(), *file_lists(), *delivery_lists(), *outbox_reads()]
    count = Count(monkeypatch)
    costs: dict[str, list[int]] = {}
    for rows in (SMALL, LARGE):
        async with grown(folder, rows) as database:
            for case in asked:
                count.steps = 0
                (ask,) = case.values
                await ask(database, rows)
                costs.setdefault(str(case.id), []).append(count.steps)

    assert len(costs) == len(asked)
    assert not {name: cost for name, cost in costs.items() if cost[1] > MOST * cost[0] + 50}
