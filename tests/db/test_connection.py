from __future__ import annotations

import asyncio
import re
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from mediagen.core.errors import Unavailable
from mediagen.core.tasks import TaskQuery, TaskStatus
from mediagen.db.connection import Database
from mediagen.db.errors import DatabaseDamaged, DataDirInUse
from mediagen.db.files import SqliteFiles
from mediagen.db.tasks import SqliteJournal
from tests.contracts.journal import a_task
from tests.db.children import child


async def test_starts_are_counted_and_the_directory_keeps_its_id_and_its_secret(tmp_path: Path) -> None:
    found = []
    for _ in range(3):
        async with Database(tmp_path / "new" / "mediagen.db") as database:
            found.append((database.boot, database.instance_id, database.link_secret))
    async with Database(tmp_path / "other" / "mediagen.db") as other:
        another = other.link_secret

    assert [boot for boot, _, _ in found] == [1, 2, 3]
    assert len({instance for _, instance, _ in found}) == 1
    (secret,) = {secret for _, _, secret in found}
    assert len(secret) == len(another) == 32
    assert secret != another


async def test_the_files_are_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "mediagen.db"
    path.touch(0o644)
    async with Database(path):
        assert {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()} == {
            f"mediagen.db{end}": 0o600 for end in ("", "-wal", "-shm", ".lock")
        }


async def test_closing_leaves_no_log_behind(tmp_path: Path) -> None:
    async with Database(tmp_path / "mediagen.db") as database:
        await SqliteJournal(database).insert(a_task())

    assert {entry.name for entry in tmp_path.iterdir()} == {"mediagen.db", "mediagen.db.lock"}


async def test_a_second_process_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    async with child("tests.db.crashing_writer", tmp_path / "mediagen.db") as writer:
        assert writer.stdout is not None
        await writer.stdout.readline()

        with pytest.raises(DataDirInUse, match=f"process {writer.pid}"):
            await Database(tmp_path / "mediagen.db").__aenter__()


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    output = b""
    for acknowledged in (40, 200, 90):
        async with child("tests.db.crashing_writer", tmp_path / "mediagen.db") as writer:
            assert writer.stdout is not None
            for _ in range(acknowledged):
                output += await writer.stdout.readline()
            writer.kill()
            output += await writer.stdout.read()

    async with Database(tmp_path / "mediagen.db") as database:
        assert database.boot == 4
        assert await database.read(lambda connection: connection.execute("PRAGMA integrity_check").fetchall()) == [
            ("ok",)
        ]
        rows, more = await SqliteJournal(database).query(TaskQuery(limit=10**6))
        assert not more
        status = {row.id: row.status for row in rows}
        for word, task_id in re.findall(r"^(inserted|completed) (\w+)$", output.decode(), re.MULTILINE):
            assert status[task_id] is TaskStatus.COMPLETED or word == "inserted"
        files = SqliteFiles(database)
        for task_id, reached in status.items():  # a state and its files come together or not at all
            assert len(await files.keys(task_id)) == (reached is TaskStatus.COMPLETED)


async def test_a_reader_sees_one_state_while_the_writer_goes_on(database: Database) -> None:
    journal = SqliteJournal(database)
    begun, written = threading.Event(), threading.Event()

    def count(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM tasks").fetchone()[0])

    def count_twice(connection: sqlite3.Connection) -> tuple[int, int]:
        first = count(connection)
        begun.set()
        assert written.wait(5)
        return first, count(connection)

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(database.read(count_twice))
        await asyncio.to_thread(begun.wait)
        await journal.insert(a_task())
        assert await database.read(count) == 1  # the other reader
        written.set()

    assert await reading == (0, 0)
    assert await database.read(count) == 1


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable):
        await database.read(lambda connection: connection.execute("DELETE FROM meta").rowcount)


async def test_a_wrong_statement_is_the_callers_fault(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError):
        await database.read(lambda connection: connection.execute("SELECT nothing").fetchall())
    with pytest.raises(sqlite3.OperationalError):
        await database.write(lambda connection: connection.execute("SELECT nothing").fetchall())
    assert database.healthy


async def test_a_closed_database_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "mediagen.db")
    async with database:
        within = database.healthy

    assert (within, database.healthy) == (True, False)
    with pytest.raises(Unavailable):
        await SqliteJournal(database).insert(a_task())
    with pytest.raises(Unavailable):
        await SqliteJournal(database).live()


async def test_a_damaged_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "mediagen.db"
    async with Database(path) as database:
        journal = SqliteJournal(database)
        await asyncio.gather(*(journal.insert(a_task(n, request={"pad": "x" * 500})) for n in range(200)))
    content = bytearray(path.read_bytes())
    for offset in range(8192, len(content), 4096):
        content[offset : offset + 64] = b"\xa5" * 64
    path.write_bytes(content)

    with pytest.raises(DatabaseDamaged, match="backup"):
        await Database(path).__aenter__()

    path.write_bytes(b"no database " * 1000)
    with pytest.raises(DatabaseDamaged):
        await Database(path).__aenter__()


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mediagen.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()

    with pytest.raises(DatabaseDamaged, match="another program"):
        await Database(path).__aenter__()

    async with Database(tmp_path / "other.db"):  # nothing of the failed start holds anything
        pass


async def test_a_directory_that_cannot_be_made_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Unavailable, match="cannot be used"):
        await Database(tmp_path / "file" / "mediagen.db").__aenter__()
