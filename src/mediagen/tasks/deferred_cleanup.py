"""What an attempt left in the store and will never go on with: removed now if it is quick, else owed and removed later.

A debt is a row, of one of four forms:

* of a task: its kind, id and attempt beside the checkpoint; its pipeline removes what the checkpoint names;
* of content that comes inside a request (``pipelines.reception``): the same, with the number of the start that served
  it in place of the task;
* a look: the state of an upload whose requests the store may carry out late. It is removed again and again, at growing
  intervals, for longer than a request can live; what became a file keeps its object. The number of looks is in the row,
  the time until the next is not: a start looks at once and then waits as long as before, whatever the clock says;
* of the kind ``DELETION``: the intent of ``tasks.deletions``, which carries it on.

A checkpoint is written before the store is asked for anything, so the first two follow from it. The third is owed
before the checkpoint goes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from mediagen.core.errors import MediagenError, NotFound
from mediagen.core.tasks import Task, TaskStatus
from mediagen.pipelines.base import Ledger, Pipeline
from mediagen.pipelines.saving.placement import late_write_cleanups
from mediagen.storage.base import Storage
from mediagen.tasks.ports import Files
from mediagen.tasks.registry import Registry

log = structlog.get_logger(__name__)

PAGE: Final = 1000
EVERY_SECONDS: Final = 300.0
DELETION: Final = "deletion"
LOOKS: Final = 9
LOOK_SECONDS: Final = 2.0
"""Until the second look; each interval is twice the one before. The last look comes 17 minutes after the first, while
a store may take ten minutes to complete an upload."""
_AT_ONCE: Final = 8
_ONE_SECONDS: Final = 60.0
"""How long the removal for one debt may take; then it is tried later."""


class Debts:
    """Owes and settles."""

    def __init__(
        self,
        registry: Registry,
        ledger: Ledger,
        files: Files,
        pipelines: Mapping[str, Pipeline],
        storage: Storage | None,
        boot: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``boot`` is the number of this start: debts that name it belong to requests that are still being served."""
        self._registry = registry
        self._ledger = ledger
        self._files = files
        self._pipelines = pipelines
        self._storage = storage
        self._boot = boot
        self._new = asyncio.Event()
        self._clock = clock
        self._due: dict[int, float] = {}
        """When a debt that was tried is tried again."""
        self._failures: dict[int, int] = {}
        self.finish_deletion: Callable[[Mapping[str, Any]], Awaitable[None]] | None = None

    async def owe(self, task: Task, checkpoint: Mapping[str, Any]) -> None:
        """Remember what this attempt left; durable when it returns."""
        await self._ledger.owe_abort(
            {"kind": task.kind, "task_id": task.id, "attempt": task.attempt, "checkpoint": dict(checkpoint)}
        )
        self._new.set()

    async def look_later(
        self, task: Task, left: Mapping[str, Any], *, instead: Mapping[str, Any] | None = None, becomes: bool = False
    ) -> bool:
        """Owe a look at what a checkpoint names, where the store may carry out a request late; durable when it returns.

        Gives whether anything is owed. In the ordinary case, in which every request was answered, nothing is written.

        Args:
            task: as it was when this process took it up; plans of its own checkpoint are of an earlier process.
            instead: the next checkpoint; what it names too is still at work.
            becomes: what it names is about to become files, with the end of this attempt.
        """
        if self._storage is None or not self._storage.acts_late:
            return False
        earlier = {debt["file_id"] for debt in late_write_cleanups(self._storage, task.checkpoint, earlier=True)}
        at_work = {debt["file_id"] for debt in late_write_cleanups(self._storage, instead or {}, earlier=True)}
        owes = False
        until = {"task_id": task.id, "attempt": task.attempt} if becomes else {}
        for debt in late_write_cleanups(self._storage, left, earlier=True):
            file_id = debt["file_id"]
            if file_id in at_work or not (file_id in earlier or self._storage.in_doubt(debt["look"]["key"])):
                continue
            debt_id = await self._ledger.owe_abort({**debt, **until})
            self._forget(debt_id)
            self._new.set()
            owes = True
        return owes

    def settle_soon(self) -> None:
        """Something that is owed may be settled now."""
        self._new.set()

    async def settle_forever(self) -> None:
        """Settle what is owed at the start and when something new is owed; look and try again when that is due."""
        while True:
            self._new.clear()
            try:
                await self.settle(due_only=True)
            except MediagenError as exc:
                log.warning("debts_not_settled", error=exc.detail)
            next_due = min(self._due.values(), default=self._clock() + EVERY_SECONDS)
            try:
                async with asyncio.timeout(min(EVERY_SECONDS, max(0.1, next_due - self._clock()))):
                    await self._new.wait()
            except TimeoutError:
                continue

    async def finish_deletions(self) -> None:
        """Finish the deletions that a kill interrupted."""
        last = 0
        while page := await self._ledger.owed_aborts(PAGE, after=last):
            last = page[-1][0]
            for debt_id, state in page:
                if state.get("kind") == DELETION:
                    await self._try(debt_id, state)

    async def settle(self, *, due_only: bool = False) -> int:
        """Remove what is owed and can be removed; gives how many debts are left.

        ``due_only``: not what was tried a short while ago.
        """
        left, last = 0, 0
        seen: set[int] = set()
        while page := await self._ledger.owed_aborts(PAGE, after=last):
            last = page[-1][0]
            seen.update(debt_id for debt_id, _ in page)
            due = [debt for debt in page if not due_only or self._due.get(debt[0], 0.0) <= self._clock()]
            left += len(page) - len(due)
            for start in range(0, len(due), _AT_ONCE):
                async with asyncio.TaskGroup() as group:
                    tries = [group.create_task(self._try(*debt)) for debt in due[start : start + _AT_ONCE]]
                left += sum(not one.result() for one in tries)
        for debt_id in self._due.keys() - seen:
            self._forget(debt_id)
        return left

    async def _try(self, debt_id: int, state: Mapping[str, Any]) -> bool:
        """Whether the debt is settled."""
        try:
            if not await self._is_over(state):
                return False
            async with asyncio.timeout(_ONE_SECONDS):
                if "look" in state:
                    return await self._look(debt_id, state)
                if state.get("kind") == DELETION:
                    await self._finish(state)
                    await self._settled(debt_id)
                    return True
                if not await self._is_row(state):
                    await self._remove(state)
            owing = (
                [] if self._storage is None else late_write_cleanups(self._storage, state["checkpoint"], earlier=True)
            )
            await self._settled(debt_id, owing)
        except Exception as exc:  # whatever a pipeline or a store raises: it stays owed
            failures = self._failures[debt_id] = self._failures.get(debt_id, 0) + 1
            self._due[debt_id] = self._clock() + min(EVERY_SECONDS, LOOK_SECONDS * 2.0 ** min(failures, 16))
            log.warning("debt_left", debt=debt_id, failures=failures, exc_info=exc)
            return False
        return True

    async def _settled(self, debt_id: int, owing: Sequence[Mapping[str, Any]] = ()) -> None:
        await self._ledger.settle_abort(debt_id, owing=owing)
        self._forget(debt_id)
        if owing:
            self._new.set()
        log.info("debt_settled", debt=debt_id)

    async def _look(self, debt_id: int, state: Mapping[str, Any]) -> bool:
        """Remove what is there by now; whether this was the last look."""
        if self._storage is None:
            raise MediagenError("no store to look into")
        if await self._files.get(state["file_id"]) is None:
            await self._storage.remove(state["look"])
        else:
            await self._storage.abort(state["look"])
        waited = debt_id in self._due and debt_id not in self._failures and self._due[debt_id] <= self._clock()
        looks = await self._ledger.looked(debt_id, more=int(waited))
        self._failures.pop(debt_id, None)
        if looks < LOOKS:
            self._due[debt_id] = self._clock() + LOOK_SECONDS * 2.0**looks
            return False
        await self._settled(debt_id)
        return True

    def _forget(self, debt_id: int) -> None:
        self._due.pop(debt_id, None)
        self._failures.pop(debt_id, None)

    async def _finish(self, state: Mapping[str, Any]) -> None:
        if self.finish_deletion is None:
            raise MediagenError("nobody finishes deletions")
        await self.finish_deletion(state)

    async def _is_over(self, state: Mapping[str, Any]) -> bool:
        if state.get("kind") == DELETION:
            return True
        if "boot" in state:
            return bool(state["boot"] != self._boot)
        if "task_id" not in state:
            return True
        try:
            task = await self._registry.get(state["task_id"])
        except NotFound:
            return True
        return task.ended or task.attempt != state["attempt"]

    async def _is_row(self, state: Mapping[str, Any]) -> bool:
        """Whether this very attempt or request was completed after all: then what it stored is a file."""
        if "boot" in state:
            return await self._files.get(state["checkpoint"]["file_id"]) is not None
        try:
            task = await self._registry.get(state["task_id"])
        except NotFound:
            return False
        return task.status is TaskStatus.COMPLETED and task.attempt == state["attempt"]

    async def _remove(self, state: Mapping[str, Any]) -> None:
        if (pipeline := self._pipelines.get(state["kind"])) is None:
            raise MediagenError(f"no pipeline for {state['kind']}")
        await pipeline.abandon(state["checkpoint"])
