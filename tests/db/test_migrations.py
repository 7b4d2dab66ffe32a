from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mediagen.db.connection import Database
from mediagen.db.errors import SchemaTooNew
from mediagen.db.migrations import Migration, migrations
from mediagen.db.tasks import SqliteJournal
from tests.contracts.journal import a_task

STEPS = migrations()


def test_the_steps_are_numbered_without_gaps() -> None:
    assert [step.number for step in STEPS] == list(range(1, len(STEPS) + 1))


def next_step(sql: str) -> list[Migration]:
    return [*STEPS, Migration(STEPS[-1].number + 1, "next.sql", sql)]


async def test_a_step_is_applied_once_after_a_copy(tmp_path: Path) -> None:
    path, task = tmp_path / "mediagen.db", a_task()
    async with Database(path) as database:
        await SqliteJournal(database).insert(task)
    assert not list(tmp_path.glob("*.bak"))
    steps = next_step("CREATE TABLE more (x INTEGER NOT NULL) STRICT; INSERT INTO more VALUES (1);")

    for _ in range(2):
        async with Database(path, steps=steps) as database:
            assert await database.read(lambda c: c.execute("SELECT count(*) FROM more").fetchone()) == (1,)

    (copy,) = tmp_path.glob("*.bak")
    assert copy.name == f"mediagen.db.v{STEPS[-1].number}.bak"
    copy.rename(tmp_path / "copy.db")
    async with Database(tmp_path / "copy.db") as database:
        assert await SqliteJournal(database).get(task.id) == task


async def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mediagen.db"
    async with Database(path):
        pass

    with pytest.raises(sqlite3.OperationalError):
        await Database(path, steps=next_step("CREATE TABLE more (x) ; SELECT wrong;")).__aenter__()

    async with Database(path) as database:  # the release before still starts
        assert (
            await database.read(lambda c: c.execute("SELECT name FROM sqlite_master WHERE name='more'").fetchall())
            == []
        )


async def test_a_newer_schema_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "mediagen.db"
    async with Database(path, steps=next_step("CREATE TABLE more (x INTEGER) STRICT;")):
        pass

    with pytest.raises(SchemaTooNew, match="install the release that wrote it"):
        await Database(path).__aenter__()
