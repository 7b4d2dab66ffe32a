"""A purge in slices: all of the old goes, and what is written meanwhile does not wait for it."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from mediagen.core.clock import Clock
from mediagen.core.tasks import TaskStatus
from mediagen.maintenance import purge as module
from mediagen.maintenance.purge import HistoryPurge
from tests.contracts.journal import NOW, a_task
from tests.tasks.scripted import World, world

OLD = 700


async def test_all_of_the_old_is_purged_in_slices_and_the_file_shrinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_TASKS", 16)
    async with world(tmp_path, started=False) as server:
        await asyncio.gather(
            *(
                server.journal.insert(a_task(n, status=TaskStatus.FAILED, ended_at=NOW, request={"pad": "x" * 2000}))
                for n in range(OLD)
            )
        )
        sizes: list[int] = []
        genuine = server.registry.purge

        async def counted(**asked: object) -> int:
            sizes.append(await genuine(**asked))  # type: ignore[arg-type]
            return sizes[-1]

        monkeypatch.setattr(server.registry, "purge", counted)
        pages = await _pages(server)

        purging = asyncio.get_running_loop().create_task(HistoryPurge(server.registry, Clock(), days=1).run())
        async with asyncio.timeout(30):
            while await _pages(server) > pages / 2:
                await asyncio.sleep(0.01)
        purging.cancel()

    assert sum(sizes) == OLD
    assert len(sizes) > 3
    assert max(sizes) <= module._MOST_TASKS


async def test_the_newest_history_is_kept(tmp_path: Path) -> None:
    clock = Clock()
    async with world(tmp_path, started=False) as server:
        old = await server.journal.insert(a_task(1, status=TaskStatus.FAILED, ended_at=clock.now() - timedelta(days=2)))
        new = await server.journal.insert(
            a_task(2, status=TaskStatus.FAILED, ended_at=clock.now() - timedelta(hours=2))
        )

        assert await HistoryPurge(server.registry, clock, days=1).purge() == 1
        assert await server.journal.get(old) is None
        assert await server.journal.get(new) is not None


async def _pages(server: World) -> int:
    def read(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA page_count").fetchone()[0])

    return await server.database.read(read)
