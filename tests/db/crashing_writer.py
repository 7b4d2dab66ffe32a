"""Writes for ever into the database given as argument; each line it prints is a task whose insert was acknowledged."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mediagen.db.connection import Database
from mediagen.db.ledger import SqliteLedger
from mediagen.db.tasks import SqliteJournal
from mediagen.streams.base import StoredPart
from tests.contracts.journal import a_file, a_task, ended


async def write(journal: SqliteJournal, ledger: SqliteLedger) -> None:
    while True:
        task = a_task()
        await journal.insert(task)
        await ledger.record_part(task.id, 1, StoredPart(1, 5, 7, "etag"))
        sys.stdout.write(f"inserted {task.id}\n")
        sys.stdout.flush()
        done = ended(task)
        await journal.save(done, was=task, files=[a_file(task_id=task.id)])
        sys.stdout.write(f"completed {task.id}\n")
        sys.stdout.flush()


async def main(path: Path) -> None:
    async with Database(path) as database, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(write(SqliteJournal(database), SqliteLedger(database)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
