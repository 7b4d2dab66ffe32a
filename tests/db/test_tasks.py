from __future__ import annotations

from dataclasses import replace

import pytest

from mediagen.core.errors import Conflict
from mediagen.core.tasks import TaskStatus
from mediagen.db.connection import Database
from mediagen.db.files import SqliteFiles
from mediagen.db.ledger import SqliteLedger
from mediagen.db.tasks import SqliteJournal
from mediagen.streams.base import StoredPart
from mediagen.tasks.ports import Journal
from tests.contracts.journal import NOW, JournalContract, a_file, a_task, ended


class TestSqliteJournal(JournalContract):
    @pytest.fixture
    def journal(self, database: Database) -> Journal:
        return SqliteJournal(database)


async def test_a_row_that_the_table_of_states_does_not_allow_is_refused(database: Database) -> None:
    journal = SqliteJournal(database)

    with pytest.raises(Conflict):
        await journal.insert(a_task(status=TaskStatus.COMPLETED, ended_at=None))


async def test_a_checkpoint_written_in_between_survives_a_save(database: Database) -> None:
    journal, ledger = SqliteJournal(database), SqliteLedger(database)
    task = a_task(status=TaskStatus.RUNNING, started_at=NOW)
    await journal.insert(task)
    await ledger.checkpoint(task.id, 1, {"upload": "u"})
    await ledger.record_part(task.id, 1, StoredPart(1, 5, 7, "etag"))

    queued = task.to(TaskStatus.QUEUED, now=NOW)
    assert await journal.save(queued, was=task)

    row = await journal.get(task.id)
    assert row is not None
    assert row.checkpoint == {"upload": "u"}
    assert await ledger.parts(task.id, 1) == [StoredPart(1, 5, 7, "etag")]


async def test_what_an_attempt_remembered_goes_with_its_end(database: Database) -> None:
    journal, ledger = SqliteJournal(database), SqliteLedger(database)
    task = a_task(status=TaskStatus.RUNNING, started_at=NOW)
    await journal.insert(task)
    await ledger.checkpoint(task.id, 1, {"upload": "u"})
    await ledger.record_part(task.id, 1, StoredPart(1, 5, 7, "etag"))

    assert await journal.save(ended(task, TaskStatus.FAILED), was=task)

    row = await journal.get(task.id)
    assert row is not None
    assert row.checkpoint == {}
    assert await ledger.parts(task.id, 1) == []


async def test_files_outlive_their_task(database: Database) -> None:
    journal, files = SqliteJournal(database), SqliteFiles(database)
    task = ended(a_task())
    file = a_file(task_id=task.id)
    await journal.insert(task, files=[file])

    await journal.delete(task.id)

    assert await files.get(file.id) == replace(file, task_id=None)
