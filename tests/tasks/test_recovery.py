"""What a start makes of the rows that a kill left."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.clock import utc_now
from mediagen.core.tasks import Task, TaskStatus
from mediagen.core.webhooks import Webhook
from mediagen.db.outbox import SqliteOutbox
from mediagen.streams.base import StoredPart
from mediagen.tasks.runner import MAX_CLAIMS
from tests.contracts.journal import NOW, a_file, a_task
from tests.tasks.scripted import Scripted, Spec, World, world


def left(number: int = 0, **changes: Any) -> Task:
    return a_task(number, kind="scripted", **({"request": {"do": "wait"}} | changes))


def running(number: int = 0, **changes: Any) -> Task:
    return left(number, status=TaskStatus.RUNNING, started_at=NOW, version=1, **changes)


async def test_ends_that_the_start_brings_about_are_owed_to_webhooks(tmp_path: Path) -> None:
    hook = Webhook("http://example.org/", "http://us")
    poisoned = running(0, claims=MAX_CLAIMS - 1, webhook=hook)
    cancelled = running(1, cancel_requested=True, webhook=hook)
    await after_a_kill(tmp_path, poisoned, cancelled, left(2, webhook=hook))

    async with world(tmp_path) as server:
        owed = await SqliteOutbox(server.database).due(utc_now(), without=(), not_to=(), limit=9)

    assert {delivery.task_id: delivery.type for delivery in owed} == {
        poisoned.id: "task.failed",
        cancelled.id: "task.cancelled",
    }


async def after_a_kill(folder: Path, *rows: Task) -> None:
    async with world(folder, started=False) as before:
        for row in rows:
            await before.journal.insert(row)


async def test_queued_tasks_run_in_their_old_order(tmp_path: Path) -> None:
    rows = [left(number, lane="one at a time", priority=90 if number == 3 else 50) for number in range(4)]
    await after_a_kill(tmp_path, *reversed(rows))

    async with world(tmp_path) as server:
        assert [task.id for task in server.registry.live()] == [row.id for row in rows]
        server.pipeline.release.set()
        await server.pipeline.began(4)

    assert [seen.task_id for seen in server.pipeline.runs] == [rows[n].id for n in (3, 0, 1, 2)]


async def test_a_running_task_goes_on_with_what_it_had(tmp_path: Path) -> None:
    row = running(checkpoint={"upload": "u"}, attempt=2, owner="anna")
    async with world(tmp_path, started=False) as before:
        await before.journal.insert(row)
        await before.ledger.record_part(row.id, 2, StoredPart(1, 5, 6, "t"))

    async with world(tmp_path) as server:
        seen = await server.pipeline.began()
        now = await server.service.get(row.id)
        assert (now.status, now.claims, now.attempt, now.started_at) == (TaskStatus.RUNNING, 1, 2, NOW)
        assert (seen.attempt, seen.resume, seen.parts) == (2, {"upload": "u"}, [StoredPart(1, 5, 6, "t")])
        server.pipeline.release.set()
        assert (await server.service.wait(row.id)).status is TaskStatus.COMPLETED

    assert server.pipeline.abandoned == []


async def test_a_task_that_ran_at_every_kill_is_not_taken_up_a_fifth_time(tmp_path: Path) -> None:
    fourth, fifth = running(1, claims=3), running(2, claims=4, checkpoint={"upload": "u"})
    await after_a_kill(tmp_path, fourth, fifth)

    async with world(tmp_path) as server:
        ended = await server.service.wait(fifth.id)
        assert ended.status is TaskStatus.FAILED
        assert ended.error is not None
        assert ended.error.code == "internal"
        assert "5 times" in ended.error.message
        assert await server.pipeline.gave_up() == {"upload": "u"}
        assert (await server.pipeline.began()).task_id == fourth.id
        again = await server.service.retry(fifth.id)
        assert (again.attempt, again.claims) == (2, 0)
        server.pipeline.release.set()
        await server.service.wait(fifth.id)


async def test_an_attempt_that_gets_on_is_taken_up_as_often_as_it_takes(tmp_path: Path) -> None:
    row = running(claims=3)
    await after_a_kill(tmp_path, row)

    for number in range(1, 8):
        async with world(tmp_path, started=False) as server:
            await server.runner.recover()
            taken = await server.registry.move(row.id, TaskStatus.RUNNING)
            assert taken.claims == (4 if number == 1 else 1)
            await server.ledger.record_part(row.id, 1, StoredPart(number, 5, 6, "t"))  # and then it is killed


@pytest.mark.parametrize("checkpoint", [{}, {"upload": "u"}])
async def test_a_requested_cancel_is_never_forgotten(tmp_path: Path, checkpoint: dict[str, Any]) -> None:
    row = running(cancel_requested=True, checkpoint=checkpoint)
    await after_a_kill(tmp_path, row)

    async with world(tmp_path) as server:
        assert (await server.service.get(row.id)).status is TaskStatus.CANCELLED
        if checkpoint:
            assert await server.pipeline.gave_up() == checkpoint
            await settled(server)

    assert server.pipeline.runs == []


async def settled(server: World) -> None:
    async with asyncio.timeout(5):
        while await server.ledger.owed_aborts(1):
            await asyncio.sleep(0.01)


async def test_a_waiting_task_with_an_upload_is_cancelled_and_its_upload_removed(tmp_path: Path) -> None:
    rows = [left(number, lane="one at a time", checkpoint={"upload": number}) for number in range(1, 3)]
    await after_a_kill(tmp_path, *rows)

    async with world(tmp_path) as server:
        await server.pipeline.began()
        assert (await server.service.cancel(rows[1].id)).status is TaskStatus.CANCELLED
        assert await server.pipeline.gave_up() == {"upload": 2}
        await settled(server)
        server.pipeline.release.set()
        await server.service.wait(rows[0].id)

    assert server.pipeline.abandoned == [{"upload": 2}]


async def test_a_debt_of_an_attempt_that_still_lives_is_not_settled(tmp_path: Path) -> None:
    row = running(checkpoint={"upload": "u"})
    await after_a_kill(tmp_path, row)

    async with world(tmp_path, started=False) as server:
        await server.registry.load()
        await server.runner.debts.owe(row, row.checkpoint)

        assert await server.runner.debts.settle() == 1
        assert server.pipeline.abandoned == []


async def test_a_task_of_a_kind_that_is_gone_fails(tmp_path: Path) -> None:
    row = replace(left(), kind="of another release")
    await after_a_kill(tmp_path, row)

    async with world(tmp_path) as server:
        ended = await server.service.wait(row.id)

    assert ended.status is TaskStatus.FAILED
    assert ended.error is not None
    assert not ended.error.retryable


async def test_a_request_that_this_release_does_not_take_fails_with_the_field(tmp_path: Path) -> None:
    row = left(request={"do": "wait", "of_another_release": 1})
    await after_a_kill(tmp_path, row)

    async with world(tmp_path) as server:
        ended = await server.service.wait(row.id)

    assert ended.status is TaskStatus.FAILED
    assert ended.error is not None
    assert ended.error.code == "invalid_request"
    assert "of_another_release" in ended.error.message


async def test_ended_tasks_stay_as_they_are(tmp_path: Path) -> None:
    async with world(tmp_path) as first:
        first.pipeline.release.set()
        done = await first.service.wait((await first.service.submit("scripted", Spec())).id)
        failed = await first.service.wait((await first.service.submit("scripted", Spec(do="fail"))).id)

    async with world(tmp_path, Scripted()) as second:
        assert await second.service.get(done.id) == done
        assert await second.service.get(failed.id) == failed
        assert second.told == []


@pytest.mark.parametrize(("boot", "settled"), [("this one", False), ("an earlier one", True)])
@pytest.mark.parametrize("is_row", [False, True])
async def test_what_a_killed_request_stored_goes_unless_it_is_a_file(
    tmp_path: Path, boot: str, settled: bool, is_row: bool
) -> None:
    file = a_file()
    async with world(tmp_path, started=False) as server:
        state = {"kind": "scripted", "boot": 0 if boot == "this one" else 7, "checkpoint": {"file_id": file.id}}
        await server.ledger.owe_abort(state)
        if is_row:
            await server.files.insert(file)

        assert await server.runner.debts.settle() == (0 if settled else 1)

    assert server.pipeline.abandoned == ([{"file_id": file.id}] if settled and not is_row else [])
