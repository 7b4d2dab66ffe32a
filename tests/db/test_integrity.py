"""When the file is checked, and what becomes of deleted rows."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from mediagen.core.errors import Unavailable
from mediagen.core.tasks import TaskQuery
from mediagen.db import connection as module
from mediagen.db import integrity, worker
from mediagen.db.connection import Database
from mediagen.db.tasks import SqliteJournal
from tests.contracts.journal import a_task
from tests.db.children import child


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each check of a file that was carried out."""
    carried_out: list[str] = []
    genuine = integrity.faults_of

    def counted(connection: sqlite3.Connection, *stop: object) -> list[str]:
        carried_out.append("background" if stop else "start")
        return genuine(connection, *stop)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "faults_of", counted)
    return carried_out


async def filled(path: Path) -> None:
    async with Database(path) as database:
        journal = SqliteJournal(database)
        await asyncio.gather(*(journal.insert(a_task(n, request={"pad": "x" * 500})) for n in range(200)))


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for offset in range(8192, len(content), 4096):
        content[offset : offset + 64] = b"\xa5" * 64
    path.write_bytes(content)


async def test_after_an_orderly_stop_the_file_is_not_read_through(tmp_path: Path, checks: list[str]) -> None:
    path = tmp_path / "mediagen.db"
    await filled(path)
    await filled(tmp_path / "other.db")

    async with Database(path):
        pass

    assert checks == []


async def _touched(path: Path) -> None:
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))


async def _replaced(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


async def _written_by_another(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs AS SELECT randomblob(100000)")
    other.commit()
    other.close()


async def _killed(path: Path) -> None:
    async with child("tests.db.crashing_writer", path) as writer:
        assert writer.stdout is not None
        await writer.stdout.readline()
        writer.kill()
        await writer.wait()


@pytest.mark.parametrize("happens", [_touched, _replaced, _written_by_another, _killed])
async def test_a_file_that_was_not_left_so_is_checked_before_the_start(
    tmp_path: Path, checks: list[str], happens: Callable[[Path], asyncio.Future[None]]
) -> None:
    path = tmp_path / "mediagen.db"
    await filled(path)
    await happens(path)

    async with Database(path):
        pass
    async with Database(path):
        pass

    assert checks == ["start"]


async def test_a_large_file_is_checked_while_the_server_runs(
    tmp_path: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUICK_BYTES", 1024)
    path = tmp_path / "mediagen.db"
    await filled(path)
    await _touched(path)

    async with Database(path) as database:
        assert database.healthy
        async with asyncio.timeout(20):
            while database._unchecked:
                await asyncio.sleep(0.01)
        assert database.healthy
    async with Database(path):
        pass

    assert checks == ["background"]


async def test_damage_that_is_found_later_turns_the_server_red(
    tmp_path: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUICK_BYTES", 1024)
    path = tmp_path / "mediagen.db"
    await filled(path)
    content = bytearray(path.read_bytes())
    content[-4096:-4032] = b"\xa5" * 64  # one page, which opening does not look at
    path.write_bytes(content)

    for _ in range(2):  # a file that was found damaged is not taken for sound the next time
        async with Database(path) as database, asyncio.timeout(20):
            while database.healthy:
                await asyncio.sleep(0.01)

    assert checks == ["background", "background"]


async def test_a_check_under_way_does_not_hold_up_the_stop(
    tmp_path: Path, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUICK_BYTES", 1024)
    path = tmp_path / "mediagen.db"
    await filled(path)
    await _touched(path)

    for _ in range(2):  # broken off, it is begun anew by the next start
        async with Database(path):
            pass

    assert len(checks) <= 2
    async with Database(path) as database, asyncio.timeout(20):
        while database._unchecked:
            await asyncio.sleep(0.01)


async def test_the_file_shrinks_when_rows_go(tmp_path: Path) -> None:
    path = tmp_path / "mediagen.db"
    await filled(path)
    full = path.stat().st_size

    async with Database(path) as database:
        await database.write(lambda connection: connection.execute("DELETE FROM tasks").rowcount)
        left = await database.shrink(10)
        assert left > 0
        while await database.shrink(10):
            pass
    assert path.stat().st_size < full / 2


async def test_a_file_of_an_earlier_release_can_shrink_from_now_on(tmp_path: Path) -> None:
    path = tmp_path / "mediagen.db"
    await filled(path)
    old = sqlite3.connect(path)
    old.execute("PRAGMA auto_vacuum = NONE")
    old.execute("VACUUM")
    assert old.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    old.close()

    async with Database(path) as database:
        (mode,) = await database.read(lambda connection: connection.execute("PRAGMA auto_vacuum").fetchone())
        tasks, _ = await SqliteJournal(database).query(TaskQuery(limit=100))

    assert mode == 2
    assert len(tasks) == 100


async def test_a_read_that_takes_too_long_is_broken_off_and_the_next_one_works(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "READ_SECONDS", 0.05)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"

    with pytest.raises(Unavailable, match="took too long"):
        await database.read(lambda connection: connection.execute(endless).fetchone())

    assert await database.read(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
