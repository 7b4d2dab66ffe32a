"""Deletions that neither a kill nor a store that fails leaves half done.

    intent (a debt) ─▶ objects ─▶ rows ─▶ the intent is forgotten

Variants go with their file, what a task made and was sent goes with the task. What stopped on the way is finished by
``tasks.debts``: at the next start, before the first request is served, and every few minutes while the store fails. So
after a start no row is without its bytes because somebody deleted it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mediagen.core.errors import Conflict, NotFound
from mediagen.core.files import File
from mediagen.core.tasks import Task
from mediagen.pipelines.base import Ledger
from mediagen.storage.base import Storage
from mediagen.tasks.deferred_cleanup import DELETION, Debts
from mediagen.tasks.ports import Files
from mediagen.tasks.registry import Registry


class Deletions:
    """Deletes files and tasks with their files."""

    def __init__(self, registry: Registry, debts: Debts, ledger: Ledger, files: Files, storage: Storage) -> None:
        self._registry = registry
        self._debts = debts
        self._ledger = ledger
        self._files = files
        self._storage = storage
        debts.finish_deletion = self.finish

    async def delete_file(self, file: File) -> None:
        """Remove a file and its variants. Again does no harm.

        Raises:
            StorageUnavailable: the store did not do it; it is tried again, and the row stays until then.
            Unavailable: the database does not write.
        """
        await self._carry_out({"kind": DELETION, "files": [file.id], "task_id": None})

    async def delete_task(self, task: Task, *, sees: str | None) -> None:
        """Remove an ended task, what it made and what came with its request; not files that the request only named.

        ``sees``: the owner whose files may be removed; None: everybody's.

        Raises:
            Conflict: the task has not ended.
            StorageUnavailable, Unavailable: as ``delete_file``.
        """
        check_ended(task)
        files = [file.id for file in await self._files_of(task, sees)]
        await self._carry_out({"kind": DELETION, "files": files, "task_id": task.id})

    async def finish(self, state: Mapping[str, Any]) -> None:
        """Carry on a deletion from its intent. One of a task that was tried again meanwhile is void.

        Raises:
            StorageUnavailable, Unavailable
        """
        task_id: str | None = state["task_id"]
        if task_id is not None and not await self._may_go(task_id):
            return
        await self._remove(state["files"])
        if task_id is not None:
            try:
                await self._registry.delete(task_id, check_ended)
            except (NotFound, Conflict):
                return

    async def _carry_out(self, state: Mapping[str, Any]) -> None:
        intent = await self._ledger.owe_abort(state)
        try:
            await self._remove(state["files"])
            if state["task_id"] is not None:
                await self._registry.delete(state["task_id"], check_ended)
        except NotFound:
            pass  # it is gone: the debts are looked through at any moment, and this one was carried out there
        except Conflict:  # somebody else was quicker to try the task again
            await self._ledger.settle_abort(intent)
            raise
        except BaseException:
            self._debts.settle_soon()
            raise
        await self._ledger.settle_abort(intent)

    async def _remove(self, file_ids: Sequence[str]) -> None:
        for file_id in file_ids:
            while (file := await self._files.get(file_id)) is not None:
                belongings = (*file.variants, file)
                for one in belongings:
                    await self._storage.delete(one.key)
                try:
                    for one in belongings:
                        await self._files.delete(one.id)
                except Conflict:  # a variant was made meanwhile
                    continue

    async def _may_go(self, task_id: str) -> bool:
        try:
            return (await self._registry.get(task_id)).ended
        except NotFound:
            return True

    async def _files_of(self, task: Task, sees: str | None) -> list[File]:
        result, found = task.result or {}, []
        made = [each for each in (result.get("file"), *result.get("files", ())) if isinstance(each, str)]
        for file_id in (*made, *(each["file_id"] for each in task.request.get("inputs", ()))):
            file = await self._files.get(file_id, owner=sees)
            if file is not None and (file.task_id == task.id or file_id in made):
                found.append(file)
        return found


def check_ended(task: Task) -> None:
    """Raise Conflict unless the task has ended."""
    if not task.ended:
        raise Conflict(f"the task is {task.status}; cancel it first", task_id=task.id)
