"""Deliveries are written with the end of their task, or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from mediagen.core.deliveries import Delivery, DeliveryAttempt, DeliveryQuery, DeliverySnapshot, DeliveryStatus
from mediagen.core.errors import Conflict, InvalidRequest
from mediagen.core.tasks import Task, TaskStatus
from mediagen.core.webhooks import Webhook, WebhookEvent
from mediagen.db.connection import Database
from mediagen.db.enqueue_deliveries import MAX_REQUEST, MAX_RESULT
from mediagen.db.outbox import KEPT_ATTEMPTS, SqliteOutbox
from mediagen.db.secrets import SqliteSecrets
from mediagen.db.tasks import SqliteJournal, snapshot_of, task_of_snapshot
from mediagen.events.webhooks.secrets import SigningSecrets
from tests.contracts.journal import NOW, a_file, a_task, ended
from tests.events.webhooks.sending import retried

URL = "https://example.org/hook?token=abc"
HOOK = Webhook(URL, "https://us.example.org")
LATER = NOW + timedelta(days=400)


async def due(database: Database, **given: Sequence[str]) -> list[DeliverySnapshot]:
    asked = {"without": (), "not_to": (), **given}
    outbox = SqliteOutbox(database)
    snapshots = [await outbox.load_snapshot(delivery) for delivery in await outbox.due(LATER, limit=100, **asked)]
    return [snapshot for snapshot in snapshots if snapshot is not None]


async def deliveries(database: Database, **query: object) -> list[Delivery]:
    found, _ = await SqliteOutbox(database).query(DeliveryQuery(limit=100, **query))  # type: ignore[arg-type]
    return found


async def attempted(
    database: Database, delivery: Delivery, status: DeliveryStatus, *, seconds: float = 1, wait: float = 5
) -> DeliveryStatus | None:
    at = NOW + timedelta(seconds=seconds)
    due_at = at + timedelta(seconds=wait) if status is DeliveryStatus.WAITING else None
    error = None if status is DeliveryStatus.DELIVERED else "refused"
    return await SqliteOutbox(database).attempted(delivery, DeliveryAttempt(at, 12, 200, error), status, due_at)


@pytest.mark.parametrize(
    "status", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMED_OUT]
)
async def test_every_end_is_owed_to_the_webhook(database: Database, status: TaskStatus) -> None:
    journal = SqliteJournal(database, first_delivery_seconds=7)
    task = a_task(status=TaskStatus.RUNNING, started_at=NOW, webhook=HOOK, owner="anna", checkpoint={"key": "k"})
    await journal.insert(task)
    assert await due(database) == []

    end = ended(task, status, result={"note": "ü"} if status is TaskStatus.COMPLETED else None)
    assert await journal.save(end, was=task)
    assert not await journal.save(end, was=task)

    (snapshot,) = await due(database)
    assert snapshot.task == replace(end, checkpoint={})
    delivery = snapshot.delivery
    assert delivery.id.startswith("evt_")
    assert (delivery.type, delivery.task_id, delivery.task_attempt) == (f"task.{status}", task.id, 1)
    assert (delivery.owner, delivery.url, delivery.target) == ("anna", URL, "https://example.org")
    assert (delivery.status, delivery.created_at) == (DeliveryStatus.WAITING, NOW)
    assert delivery.due_at == NOW + timedelta(seconds=7)


async def test_work_that_is_done_at_once_is_owed_too_and_only_once(database: Database) -> None:
    journal = SqliteJournal(database)
    for _ in range(2):
        await journal.insert(ended(a_task(webhook=HOOK)), key="k", fingerprint="f")

    assert len(await due(database)) == 1


async def test_a_task_whose_end_fails_to_be_written_owes_nothing(database: Database) -> None:
    journal, file = SqliteJournal(database), a_file()
    await journal.insert(a_task(), files=[file])
    task = a_task(status=TaskStatus.RUNNING, started_at=NOW, webhook=HOOK)
    await journal.insert(task)

    with pytest.raises(Conflict):
        await journal.save(ended(task), was=task, files=[replace(a_file(), key=file.key)])

    assert await due(database) == []
    assert await journal.get(task.id) == task


async def test_an_end_that_cannot_be_told_is_not_written(database: Database) -> None:
    """Neither is without the other."""
    journal = SqliteJournal(database)
    task = a_task(status=TaskStatus.RUNNING, started_at=NOW, webhook=HOOK)
    await journal.insert(task)
    await database.write(lambda connection: connection.execute("DROP TABLE deliveries"))

    with pytest.raises(sqlite3.OperationalError):
        await journal.save(ended(task), was=task)

    assert await journal.get(task.id) == task


async def test_only_the_ends_that_were_asked_for(database: Database) -> None:
    journal = SqliteJournal(database)
    hook = replace(HOOK, events=(WebhookEvent.FAILED,))
    await journal.insert(ended(a_task(webhook=hook)))
    await journal.insert(ended(a_task(webhook=hook), TaskStatus.FAILED))
    await journal.insert(ended(a_task()))

    assert [snapshot.delivery.type for snapshot in await due(database)] == ["task.failed"]


async def test_a_retry_has_an_end_of_its_own_and_does_not_change_the_first(database: Database) -> None:
    journal = SqliteJournal(database)
    first = ended(a_task(webhook=HOOK), TaskStatus.FAILED)
    await journal.insert(first)
    again = retried(first)
    assert await journal.save(again, was=first)
    done = ended(again)
    assert await journal.save(done, was=again)

    snapshots = await due(database)

    assert [(one.delivery.task_attempt, one.task.status) for one in snapshots] == [(1, "failed"), (2, "completed")]
    assert len({one.delivery.id for one in snapshots}) == 2


async def test_what_is_too_large_is_left_out_and_named(database: Database) -> None:
    journal = SqliteJournal(database)
    await journal.insert(ended(a_task(webhook=HOOK, request={"text": "x" * MAX_REQUEST}), result={"a": "b"}))
    await journal.insert(ended(a_task(1, webhook=HOOK), result={"text": "y" * MAX_RESULT}))

    one, two = await due(database)

    assert (one.omitted, one.task.request, one.task.result) == (("request",), {}, {"a": "b"})
    assert (two.omitted, two.task.result) == (("result",), None)


async def test_what_is_on_its_way_and_busy_targets_are_left_out(database: Database) -> None:
    journal, outbox = SqliteJournal(database), SqliteOutbox(database)
    for number, host in enumerate(("a", "a", "b")):
        hook = replace(HOOK, url=f"https://{host}.example/{number}")
        await journal.insert(ended(a_task(webhook=hook), at=NOW + timedelta(seconds=number)))
    first, second, third = [snapshot.delivery for snapshot in await due(database)]

    assert [one.delivery for one in await due(database, without=[first.id])] == [second, third]
    assert [one.delivery for one in await due(database, not_to=["https://a.example"])] == [third]
    assert await outbox.next_due(without=[], not_to=[]) == NOW
    assert await outbox.next_due(without=[first.id, second.id], not_to=[]) == third.due_at
    assert await outbox.next_due(without=[first.id], not_to=["https://a.example", "https://b.example"]) is None
    assert await outbox.due(NOW, without=[], not_to=[], limit=9) == [first]
    assert await outbox.waiting() == 3


async def test_attempts_are_numbered_and_only_the_latest_are_kept(database: Database) -> None:
    await SqliteJournal(database).insert(ended(a_task(webhook=HOOK)))
    (snapshot,) = await due(database)
    for number in range(KEPT_ATTEMPTS + 2):
        assert await attempted(database, snapshot.delivery, DeliveryStatus.WAITING, seconds=number) == "waiting"

    got = await SqliteOutbox(database).get(snapshot.delivery.id)

    assert got is not None
    assert [one.number for one in got[1]] == list(range(3, KEPT_ATTEMPTS + 3))
    assert (got[0].tries, got[0].step) == (KEPT_ATTEMPTS + 2, 1)


async def test_another_owner_sees_nothing(database: Database) -> None:
    await SqliteJournal(database).insert(ended(a_task(webhook=HOOK, owner="anna")))
    (delivery,) = await deliveries(database, owner="anna")
    outbox = SqliteOutbox(database)

    assert await deliveries(database, owner="bert") == []
    assert await outbox.get(delivery.id, owner="bert") is None
    assert await outbox.redeliver(delivery.id, LATER, owner="bert") is None
    assert await deliveries(database) == await deliveries(database, owner="anna") == [delivery]
    with pytest.raises(InvalidRequest):
        await deliveries(database, owner="bert", after=delivery.id)


async def test_pages_and_filters(database: Database) -> None:
    journal, outbox = SqliteJournal(database), SqliteOutbox(database)
    tasks = [ended(a_task(webhook=HOOK), at=NOW + timedelta(seconds=number)) for number in range(3)]
    for task in tasks:
        await journal.insert(task)
    for snapshot in (await due(database))[:1]:
        await attempted(database, snapshot.delivery, DeliveryStatus.DELIVERED)

    page, more = await outbox.query(DeliveryQuery(limit=2))
    rest, no_more = await outbox.query(DeliveryQuery(limit=2, after=page[-1].id))

    assert [one.task_id for one in (*page, *rest)] == [task.id for task in reversed(tasks)]
    assert (more, no_more) == (True, False)
    assert [one.task_id for one in await deliveries(database, status=DeliveryStatus.DELIVERED)] == [tasks[0].id]
    assert [one.task_id for one in await deliveries(database, task_id=tasks[1].id)] == [tasks[1].id]


async def test_a_redelivery_begins_the_schedule_anew(database: Database) -> None:
    await SqliteJournal(database).insert(ended(a_task(webhook=HOOK)))
    (snapshot,) = await due(database)
    await attempted(database, snapshot.delivery, DeliveryStatus.FAILED)
    assert await due(database) == []

    delivery = await SqliteOutbox(database).redeliver(snapshot.delivery.id, NOW)

    assert delivery is not None
    assert (delivery.status, delivery.step, delivery.tries, delivery.due_at) == ("waiting", 0, 1, NOW)
    assert delivery.ended_at is None
    assert [one.delivery.id for one in await due(database)] == [delivery.id]


@pytest.mark.parametrize("how", ["deleted", "purged"])
async def test_deliveries_go_with_their_task_once_they_have_ended(database: Database, how: str) -> None:
    journal = SqliteJournal(database)
    task = ended(a_task(webhook=HOOK))
    other = ended(a_task(webhook=HOOK), at=LATER)
    await journal.insert(task)
    await journal.insert(other)
    waiting, kept = (snapshot.delivery for snapshot in await due(database))

    async def remove() -> None:
        if how == "deleted":
            await journal.delete(task.id)
        else:
            await journal.purge(ended_before_iso=(NOW + timedelta(days=1)).isoformat(), limit=9)

    await remove()
    assert [snapshot.delivery for snapshot in await due(database)] == [waiting, kept], "it is told before it goes"
    assert await attempted(database, waiting, DeliveryStatus.WAITING) == "waiting"
    assert len(await deliveries(database)) == 2
    assert await attempted(database, waiting, DeliveryStatus.DELIVERED) == "delivered"
    assert await deliveries(database) == [kept]
    assert await attempted(database, waiting, DeliveryStatus.DELIVERED) is None
    assert await database.read(lambda c: c.execute("SELECT count(*) FROM delivery_attempts").fetchone()) == (0,)

    await attempted(database, kept, DeliveryStatus.FAILED)
    await journal.delete(other.id)
    assert await deliveries(database) == []


async def test_a_url_that_is_gone_is_given_another_chance_with_the_end_of_the_history(database: Database) -> None:
    journal = SqliteJournal(database)
    await journal.insert(ended(a_task(webhook=HOOK)))
    (snapshot,) = await due(database)
    assert await attempted(database, snapshot.delivery, DeliveryStatus.DISABLED) == "disabled"
    await journal.insert(ended(a_task(webhook=HOOK)))
    assert await due(database) == []

    await journal.purge(ended_before_iso=(NOW + timedelta(days=1)).isoformat(), limit=9)

    await journal.insert(ended(a_task(webhook=HOOK)))
    assert len(await due(database)) == 1


async def test_the_secret_is_in_no_row_of_tasks_or_deliveries(database: Database) -> None:
    secrets = SigningSecrets(SqliteSecrets(database))
    await secrets.load()
    await SqliteJournal(database).insert(ended(a_task(webhook=HOOK)))
    (snapshot,) = await due(database)
    await attempted(database, snapshot.delivery, DeliveryStatus.DELIVERED)

    def rows(connection: sqlite3.Connection) -> str:
        tables = ("tasks", "deliveries", "delivery_attempts", "disabled_urls")
        return repr([connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables])

    assert "whsec_" not in await database.read(rows)


def test_a_task_comes_back_from_its_snapshot() -> None:
    task: Task = ended(a_task(webhook=HOOK, owner="anna"), result={"file": "file_1"})

    assert task_of_snapshot(snapshot_of(task)) == task
