"""A deletion and what settles debts may be at the same one at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.errors import NotFound
from mediagen.core.tasks import TaskStatus
from mediagen.tasks.deferred_cleanup import Debts
from mediagen.tasks.deletions import Deletions
from tests.contracts.journal import a_task
from tests.storage.places import local_place
from tests.tasks.scripted import world


async def test_a_deletion_that_another_carries_out_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cancel of a paid job has debts looked through: the intent of the deletion that follows is one of them."""
    async with world(tmp_path / "world", started=False) as server, local_place(tmp_path / "store") as place:
        debts = Debts(server.registry, server.ledger, server.files, {}, None, boot=1)
        deletions = Deletions(server.registry, debts, server.ledger, server.files, place.storage)
        task = await server.registry.end(await server.registry.add(a_task()), TaskStatus.CANCELLED)
        remember = server.ledger.owe_abort

        async def remembered_and_settled(state: Mapping[str, Any]) -> int:
            debt = await remember(state)
            await debts.settle(due_only=True)
            return debt

        monkeypatch.setattr(server.ledger, "owe_abort", remembered_and_settled)
        await deletions.delete_task(task, sees=None)

        with pytest.raises(NotFound):
            await server.registry.get(task.id)
        assert await server.ledger.owed_aborts(10) == []
