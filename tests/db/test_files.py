from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mediagen.core.errors import Conflict, InvalidRequest
from mediagen.core.files import FileKind, FileQuery
from mediagen.db.connection import Database
from mediagen.db.files import SqliteFiles
from mediagen.db.migrations import migrations
from mediagen.db.tasks import SqliteJournal
from mediagen.tasks.ports import Files
from tests.contracts.journal import NOW, a_file, a_task

BEFORE = migrations()[:4]
"""The schema before there was a sum."""
OLD_ROWS = tuple(
    f"INSERT INTO files VALUES ('file_{size}', 'k{size}', 'a', {size}, 'video/mp4', 'video', 'crc32', '00', "
    "'2026-01-01T00:00:00.000000+00:00', 'e', NULL, NULL, NULL, NULL, NULL, NULL, '{}')"
    for size in (5, 60)
)


@pytest.fixture
def files(database: Database) -> Files:
    return SqliteFiles(database)


async def test_a_file_comes_back_as_it_was_inserted(files: Files) -> None:
    file = a_file(sha256="ab", width=3, height=4, duration_seconds=1.5, owner="anna", filename="ä \x00 \u202e.mp4")
    plain = a_file(metadata={})

    await files.insert(file)
    await files.insert(plain)

    assert await files.get(file.id) == file
    assert await files.get(plain.id) == plain
    assert await files.get("file_unknown") is None


async def test_id_and_key_are_taken_once_and_the_task_must_exist(files: Files) -> None:
    file = a_file()
    await files.insert(file)

    for other in (file, a_file(id=file.id), a_file(key=file.key), a_file(task_id="task_unknown")):
        with pytest.raises(Conflict):
            await files.insert(other)


async def test_pages_are_filtered_and_follow_each_other(files: Files) -> None:
    made = [
        a_file(created_at=NOW + timedelta(seconds=n), kind=FileKind.IMAGE if n % 2 else FileKind.VIDEO)
        for n in range(6)
    ]
    for file in made:
        await files.insert(file)

    first, more = await files.query(FileQuery(limit=4))
    rest, end = await files.query(FileQuery(limit=4, after=first[-1].id))

    assert (more, end) == (True, False)
    assert first + rest == made[::-1]
    assert await files.query(FileQuery(kind=FileKind.IMAGE, descending=False)) == (made[1::2], False)
    with pytest.raises(InvalidRequest):
        await files.query(FileQuery(after="file_gone"))


async def test_delete_says_whether_there_was_one(files: Files) -> None:
    file = a_file()
    await files.insert(file)

    assert await files.delete(file.id)
    assert not await files.delete(file.id)
    assert await files.get(file.id) is None


async def test_keys_are_those_of_the_task(files: Files, database: Database) -> None:
    task = a_task()
    await SqliteJournal(database).insert(task)
    mine = [a_file(task_id=task.id) for _ in range(2)]
    for file in (*mine, a_file()):
        await files.insert(file)

    assert await files.keys(task.id) == sorted(file.key for file in mine)


async def test_the_sum_follows_every_row_and_every_start(tmp_path: Path) -> None:
    path, kept, gone, made = tmp_path / "mediagen.db", a_file(bytes=10), a_file(bytes=300), a_file(bytes=7000)
    task = a_task()
    async with Database(path) as database:
        files, journal = SqliteFiles(database), SqliteJournal(database)
        sums = [await files.stored_bytes()]
        for file in (kept, gone):
            await files.insert(file)
        with pytest.raises(Conflict):
            await files.insert(gone)
        sums.append(await files.stored_bytes())
        await files.delete(gone.id)
        await files.delete(gone.id)
        sums.append(await files.stored_bytes())
        await journal.insert(task, files=(replace(made, task_id=task.id),))
        await journal.delete(task.id)
        sums.append(await files.stored_bytes())

    assert sums == [0, 310, 10, 7010]
    async with Database(path) as database:
        assert await SqliteFiles(database).stored_bytes() == 7010


async def test_files_from_before_there_was_a_sum_are_in_it(tmp_path: Path) -> None:
    path = tmp_path / "mediagen.db"
    async with Database(path, steps=BEFORE) as database:
        await database.write(lambda connection: [connection.execute(row).rowcount for row in OLD_ROWS])

    async with Database(path) as database:
        assert await SqliteFiles(database).stored_bytes() == 65


async def test_variants_come_with_their_file_and_are_no_files_of_their_own(files: Files) -> None:
    film, other = a_file(), a_file()
    for file in (film, other):
        await files.insert(file)
    sheet = a_file(variant_of=film.id, variant="spritesheet", width=1280, height=720, kind=FileKind.IMAGE)
    picture = a_file(variant_of=film.id, variant="thumbnail", kind=FileKind.IMAGE)
    for variant in (picture, sheet):
        await files.insert(variant)

    assert await files.get(film.id) == replace(film, variants=(sheet, picture))
    assert await files.get(picture.id) == picture
    listed, _ = await files.query(FileQuery())
    assert {file.id: file.variants for file in listed} == {film.id: (sheet, picture), other.id: ()}
    assert await files.query(FileQuery(kind=FileKind.IMAGE)) == ([], False)


async def test_a_variant_is_there_once_and_only_with_its_file(files: Files) -> None:
    film = a_file()
    await files.insert(film)
    first = a_file(variant_of=film.id, variant="thumbnail")
    await files.insert(first)

    for wrong in (a_file(variant_of=film.id, variant="thumbnail"), a_file(variant_of="file_gone", variant="thumbnail")):
        with pytest.raises(Conflict):
            await files.insert(wrong)
    with pytest.raises(Conflict, match="variants"):
        await files.delete(film.id)

    assert await files.delete(first.id)
    assert await files.delete(film.id)
