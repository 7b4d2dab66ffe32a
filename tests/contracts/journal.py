"""What every journal must do. An implementation gives the ``journal`` fixture and inherits the tests."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mediagen.core.errors import Conflict, InvalidRequest
from mediagen.core.files import Checksum, File, FileKind, new_id
from mediagen.core.tasks import Task, TaskError, TaskQuery, TaskStatus
from mediagen.tasks.ports import Journal

NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


def a_task(number: int = 0, **changes: Any) -> Task:
    """A queued task, a second younger for each ``number``."""
    created = NOW + timedelta(seconds=number)
    task = Task(
        id=new_id("task"),
        kind="ingest",
        lane="ingest",
        status=TaskStatus.QUEUED,
        request={"url": "https://example.org/ä", "deep": [1, {"x": None}]},
        created_at=created,
        updated_at=created,
    )
    return replace(task, **changes)


def a_file(**changes: Any) -> File:
    file = File(
        id=new_id("file"),
        key=f"videos/{new_id('k')}",
        filename="clip.mp4",
        bytes=5,
        media_type="video/mp4",
        kind=FileKind.VIDEO,
        checksum=Checksum("crc32", "0badcafe"),
        created_at=NOW,
        etag="abc",
        metadata={"a": "b"},
    )
    return replace(file, **changes)


def ended(task: Task, status: TaskStatus = TaskStatus.COMPLETED, at: datetime = NOW, **changes: Any) -> Task:
    running = task if task.status is TaskStatus.RUNNING else task.to(TaskStatus.RUNNING, now=NOW, started_at=NOW)
    return replace(running.to(status, now=at, ended_at=at, **changes), version=task.version + 1)


class JournalContract:
    """Inherit, and give ``journal``."""

    async def test_a_task_comes_back_as_it_was_inserted(self, journal: Journal) -> None:
        task = a_task(
            status=TaskStatus.FAILED,
            started_at=NOW,
            ended_at=NOW + timedelta(seconds=1),
            error=TaskError("fetch_failed", "no answer", True, 2, "more"),
            attempt=2,
            claims=1,
            version=7,
            priority=99,
            timeout_seconds=1.5,
            cancel_requested=True,
            owner="anna",
            checkpoint={"upload": {"id": "x"}},
        )

        await journal.insert(task)

        assert await journal.get(task.id) == task
        assert await journal.get("task_unknown") is None

    async def test_text_that_is_no_utf_8_survives(self, journal: Journal) -> None:
        task = a_task(request={"prompt": "\ud800 half a pair, \x00 and \U0001f600"})

        await journal.insert(task)

        assert await journal.get(task.id) == task

    async def test_numbers_that_json_does_not_have_are_refused(self, journal: Journal) -> None:
        with pytest.raises(InvalidRequest):
            await journal.insert(a_task(request={"fps": float("nan")}))

    async def test_an_id_is_taken_once(self, journal: Journal) -> None:
        task = a_task()
        await journal.insert(task)

        with pytest.raises(Conflict):
            await journal.insert(task)

    async def test_a_key_makes_one_task_and_lives_as_long_as_it(self, journal: Journal) -> None:
        tasks = [a_task(number) for number in range(10)]

        made = await asyncio.gather(*(journal.insert(task, key="k", fingerprint="f") for task in tasks))

        assert set(made) == {tasks[0].id}
        assert await journal.live() == tasks[:1]
        with pytest.raises(InvalidRequest):
            await journal.insert(tasks[1], key="k", fingerprint="another")
        assert (await journal.made("k", "f"), await journal.made("other", "f")) == (tasks[0].id, None)
        with pytest.raises(InvalidRequest):
            await journal.made("k", "another")
        assert await journal.insert(tasks[1], key="other", fingerprint="f") == tasks[1].id
        await journal.delete(tasks[0].id)
        assert await journal.insert(tasks[2], key="k", fingerprint="another") == tasks[2].id

    async def test_save_writes_once_for_each_version(self, journal: Journal) -> None:
        task = a_task()
        await journal.insert(task)
        running = task.to(TaskStatus.RUNNING, now=NOW, started_at=NOW)

        assert await journal.save(running, was=task)
        assert not await journal.save(task.to(TaskStatus.CANCELLED, now=NOW, ended_at=NOW), was=task)
        assert await journal.get(task.id) == running

    async def test_one_of_many_saves_wins(self, journal: Journal) -> None:
        task = a_task()
        await journal.insert(task)

        won = await asyncio.gather(*(journal.save(ended(task, result={"n": n}), was=task) for n in range(20)))

        assert won.count(True) == 1
        row = await journal.get(task.id)
        assert row is not None
        assert row.result == {"n": won.index(True)}

    async def test_files_come_with_the_save_or_not_at_all(self, journal: Journal) -> None:
        task = a_task()
        await journal.insert(task)
        first, second = a_file(task_id=task.id), a_file(task_id=task.id)

        with pytest.raises(Conflict):
            await journal.save(ended(task), was=task, files=[first, replace(second, key=first.key)])

        assert await journal.get(task.id) == task
        assert await journal.save(ended(task), was=task, files=[first, second])

    async def test_a_done_task_comes_with_its_files(self, journal: Journal) -> None:
        task = ended(a_task())
        file = a_file(task_id=task.id)

        await journal.insert(task, files=[file])

        with pytest.raises(Conflict):
            await journal.insert(ended(a_task(1)), files=[file])
        assert await journal.query(TaskQuery()) == ([task], False)

    async def test_pages_follow_each_other_without_gap_or_repeat(self, journal: Journal) -> None:
        tasks = [a_task(number // 2) for number in range(7)]  # pairs share their time
        for task in tasks:
            await journal.insert(task)
        expected = sorted(tasks, key=lambda task: (task.created_at, task.id))

        for descending in (False, True):
            found: list[Task] = []
            more = True
            while more:
                after = found[-1].id if found else None
                page, more = await journal.query(TaskQuery(limit=2, after=after, descending=descending))
                assert page
                found += page
            assert found == (expected[::-1] if descending else expected)

    async def test_pages_are_filtered(self, journal: Journal) -> None:
        mine = a_task(1, owner="anna", kind="image")
        done = ended(a_task(2, owner="anna"))
        foreign = a_task(3, owner="bert")
        for task in (mine, done, foreign):
            await journal.insert(task)

        assert await journal.query(TaskQuery(owner="anna")) == ([done, mine], False)
        assert await journal.query(TaskQuery(status=TaskStatus.COMPLETED)) == ([done], False)
        assert await journal.query(TaskQuery(kind="image", owner="anna")) == ([mine], False)
        assert await journal.query(TaskQuery(kind="image", owner="bert")) == ([], False)

    async def test_a_page_after_an_unknown_task_is_an_error(self, journal: Journal) -> None:
        with pytest.raises(InvalidRequest):
            await journal.query(TaskQuery(after="task_gone"))

    async def test_live_gives_what_has_not_ended_oldest_first(self, journal: Journal) -> None:
        old, young, over = a_task(1), a_task(2), ended(a_task(0))
        running = old.to(TaskStatus.RUNNING, now=NOW, started_at=NOW)
        for task in (young, over, running):
            await journal.insert(task)

        assert await journal.live() == [running, young]

    async def test_purge_deletes_what_ended_long_ago(self, journal: Journal) -> None:
        old = [ended(a_task(n), at=NOW - timedelta(days=9)) for n in range(3)]
        kept = [ended(a_task(4), at=NOW), a_task(5, created_at=NOW - timedelta(days=99))]
        for task in (*old, *kept):
            await journal.insert(task)
        before = (NOW - timedelta(days=1)).isoformat()

        assert await journal.purge(ended_before_iso=before, limit=2) == 2
        assert await journal.purge(ended_before_iso=before, limit=2) == 1
        assert await journal.purge(ended_before_iso=before, limit=2) == 0
        left, _ = await journal.query(TaskQuery())
        assert {task.id for task in left} == {task.id for task in kept}

    async def test_a_deleted_task_is_gone(self, journal: Journal) -> None:
        task = a_task()
        await journal.insert(task)

        await journal.delete(task.id)
        await journal.delete(task.id)

        assert await journal.get(task.id) is None
