from __future__ import annotations

import asyncio

from mediagen.core.tasks import TaskStatus
from mediagen.db.connection import Database
from mediagen.db.ledger import SqliteLedger
from mediagen.db.tasks import SqliteJournal
from mediagen.pipelines.base import Ledger
from mediagen.streams.base import StoredPart
from tests.contracts.journal import NOW, a_task, ended


async def test_parts_come_back_in_order_and_a_part_sent_twice_counts_once(database: Database) -> None:
    journal, ledger = SqliteJournal(database), SqliteLedger(database)
    task = a_task()
    await journal.insert(task)

    parts = [StoredPart(number, 100 + number, 2**32 - number, f"t{number}") for number in range(1, 301)]
    await asyncio.gather(*(ledger.record_part(task.id, 1, part) for part in reversed(parts)))
    await ledger.record_part(task.id, 1, StoredPart(7, 1, 2, "again"))

    parts[6] = StoredPart(7, 1, 2, "again")
    assert await ledger.parts(task.id, 1) == parts
    await ledger.forget_parts(task.id)
    assert await ledger.parts(task.id, 1) == []


async def test_an_attempt_that_is_over_writes_nothing(database: Database) -> None:
    journal, ledger = SqliteJournal(database), SqliteLedger(database)
    task, over = a_task(attempt=2), ended(a_task(status=TaskStatus.RUNNING, started_at=NOW))
    await journal.insert(task)
    await journal.insert(over)

    for task_id, attempt in ((task.id, 1), (over.id, 1), ("task_unknown", 1)):
        await ledger.record_part(task_id, attempt, StoredPart(1, 1, 1, "t"))
        await ledger.checkpoint(task_id, attempt, {"late": True})
        assert await ledger.parts(task_id, attempt) == []

    assert await journal.get(task.id) == task
    assert await journal.get(over.id) == over


async def test_debts_are_kept_once_each_until_they_are_settled(database: Database) -> None:
    ledger: Ledger = SqliteLedger(database)
    for state in ({"b": 1, "a": "x"}, {"a": "x", "b": 1}, {"c": 2}):
        await ledger.owe_abort(state)

    (first, second) = await ledger.owed_aborts(10)

    assert (first[1], second[1]) == ({"a": "x", "b": 1}, {"c": 2})
    assert await ledger.owed_aborts(1) == [first]
    await ledger.settle_abort(first[0])
    assert await ledger.owed_aborts(10) == [second]


async def test_a_debt_is_replaced_by_others_and_its_looks_are_counted(database: Database) -> None:
    ledger: Ledger = SqliteLedger(database)
    first = await ledger.owe_abort({"a": 1})

    await ledger.settle_abort(first, owing=[{"b": 1}, {"c": 1}])

    ((second, state), (third, _)) = await ledger.owed_aborts(10)
    assert (state, [debt[0] for debt in await ledger.owed_aborts(10, after=second)]) == ({"b": 1}, [third])
    assert [await ledger.looked(second, more=more) for more in (0, 1, 1, 0)] == [0, 1, 2, 2]
    assert await ledger.owe_abort({"b": 1}) == second
    assert await ledger.looked(second, more=0) == 0, "owed anew it is looked for as often as at first"
    assert await ledger.looked(first, more=1) == 0
