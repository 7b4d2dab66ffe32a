from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mediagen.core.errors import NotFound, Unavailable
from mediagen.db.connection import Database
from mediagen.db.tasks import SqliteJournal
from tests.contracts.journal import a_task
from tests.db.children import child
from tests.infra.process import need


def add(key: str) -> Callable[[sqlite3.Connection], int]:
    return lambda connection: connection.execute("INSERT INTO meta (key, value) VALUES (?, 1)", (key,)).rowcount


def keys(connection: sqlite3.Connection) -> set[str]:
    found = {row[0] for row in connection.execute("SELECT key FROM meta")}
    return found - {"boots", "instance_id", "link_secret"}


async def healthy_again(database: Database) -> None:
    """Without a write of ours."""
    async with asyncio.timeout(5):
        while not database.healthy:
            await asyncio.sleep(0.05)


class Busy:
    """Keeps the writer's thread until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self, connection: sqlite3.Connection) -> int:
        self.begun.set()
        assert self.go.wait(10)
        return add("busy")(connection)


async def test_one_that_fails_undoes_nothing_of_the_others(database: Database) -> None:
    busy = Busy()

    def half(connection: sqlite3.Connection) -> None:
        add("half")(connection)
        raise NotFound("no such thing")

    async with asyncio.TaskGroup() as group:
        first = group.create_task(database.write(busy))
        await asyncio.to_thread(busy.begun.wait)
        together = [  # all of these go into the next commit
            group.create_task(outcome(database.write(work))) for work in (add("a"), half, add("a"), add("b"))
        ]
        await asyncio.sleep(0)
        busy.go.set()

    assert await first == 1
    assert [await one for one in together] == [1, NotFound, sqlite3.IntegrityError, 1]
    assert await database.read(keys) == {"busy", "a", "b"}


async def outcome(write: object) -> object:
    try:
        return await write  # type: ignore[misc]
    except (NotFound, sqlite3.IntegrityError) as exc:
        return type(exc)


async def test_a_caller_that_goes_leaves_the_whole_or_nothing(database: Database) -> None:
    busy = Busy()
    begun = asyncio.get_running_loop().create_task(database.write(busy))
    await asyncio.to_thread(busy.begun.wait)
    waiting = asyncio.get_running_loop().create_task(database.write(add("waiting")))
    await asyncio.sleep(0)

    begun.cancel()
    waiting.cancel()
    for gone in (begun, waiting):
        with pytest.raises(asyncio.CancelledError):
            await gone
    busy.go.set()
    await database.write(add("next"))  # the writer has lost nothing

    assert await database.read(keys) == {"busy", "next"}


async def test_more_callers_than_the_queue_holds_are_all_served(database: Database) -> None:
    await asyncio.gather(*(database.write(add(f"k{number}")) for number in range(3000)))

    assert len(await database.read(keys)) == 3000


async def test_what_is_queued_when_it_closes_is_written(tmp_path: Path) -> None:
    path = tmp_path / "mediagen.db"
    async with Database(path) as database:
        writes = [asyncio.get_running_loop().create_task(database.write(add(f"k{number}"))) for number in range(600)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*writes) == [1] * 600

    async with Database(path) as database:
        assert len(await database.read(keys)) == 600


async def test_the_log_does_not_grow_without_end(database: Database) -> None:
    for _ in range(12):
        await database.write(
            lambda connection: (
                connection.execute("INSERT OR REPLACE INTO meta VALUES ('big', zeroblob(6000000))").rowcount
            )
        )

    assert database.path.with_name("mediagen.db-wal").stat().st_size < 40_000_000


async def test_a_database_that_another_process_holds_recovers_by_itself(tmp_path: Path) -> None:
    async with Database(tmp_path / "mediagen.db", busy_seconds=0.05) as database:
        await database.write(add("before"))
        with capture_logs() as logs:
            async with child("tests.db.holding_process", database.path) as holder:
                assert holder.stdout is not None
                assert await holder.stdout.readline() == b"held\n"

                with pytest.raises(Unavailable):
                    await database.write(add("during"))
                assert not database.healthy
                assert await database.read(keys) == {"before"}

            await healthy_again(database)
        await database.write(add("after"))

        assert [entry["event"] for entry in logs] == ["database_not_writable", "database_writable_again"]
        assert await database.read(keys) == {"before", "after"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    need("mount", "umount")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        words = f"a small file system cannot be mounted here: {mounted.stderr.strip()}"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(words)
        pytest.skip(words)
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space left"):
            write_for_ever(descriptor)
    finally:
        os.close(descriptor)


def write_for_ever(descriptor: int) -> None:
    while True:
        os.write(descriptor, bytes(4096))


async def test_a_full_disk_refuses_writes_serves_reads_and_recovers(small_disk: Path) -> None:
    async with Database(small_disk / "mediagen.db") as database:
        journal = SqliteJournal(database)
        first = a_task()
        await journal.insert(first)
        filler = small_disk / "filler"
        fill(filler)

        task = a_task(request={"pad": "x" * 100_000})
        with pytest.raises(Unavailable, match="full"):
            await journal.insert(task)
        assert not database.healthy
        assert await journal.get(first.id) == first
        assert await journal.get(task.id) is None

        filler.unlink()
        await healthy_again(database)
        await journal.insert(task)
        assert await journal.get(task.id) == task


async def test_a_large_write_that_does_not_fit_leaves_room_for_small_ones(small_disk: Path) -> None:
    async with Database(small_disk / "mediagen.db") as database:
        busy = Busy()
        journal = SqliteJournal(database)
        large = a_task(request={"pad": "x" * 3_000_000})
        small = [a_task(number) for number in range(3)]
        async with asyncio.TaskGroup() as group:
            group.create_task(database.write(busy))
            await asyncio.to_thread(busy.begun.wait)
            refused = group.create_task(refusal(journal, large))
            for task in small:
                group.create_task(journal.insert(task))
            await asyncio.sleep(0)
            busy.go.set()

        assert isinstance(await refused, Unavailable)
        assert await journal.live() == small


async def refusal(journal: SqliteJournal, task: object) -> Exception | None:
    try:
        await journal.insert(task)  # type: ignore[arg-type]
    except Unavailable as exc:
        return exc
    return None
