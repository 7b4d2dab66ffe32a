"""What an attempt left in the store and will never go on with: removed now if it is quick, else owed and removed later.

A debt is a row. The runner's own carry the kind, id and attempt of their task beside the checkpoint; those of content
that comes inside a request (``pipelines.reception``) the number of the start that served it; those without a kind are
states of uploads that a pipeline could not abort itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog

from mediagen.core.errors import MediagenError, NotFound
from mediagen.core.tasks import Task, TaskStatus
from mediagen.pipelines.base import Ledger, Pipeline
from mediagen.tasks.ports import Files
from mediagen.tasks.registry import Registry

log = structlog.get_logger(__name__)

PAGE: Final = 1000
EVERY_SECONDS: Final = 300.0


class Debts:
    """Owes and settles."""

    def __init__(
        self,
        registry: Registry,
        ledger: Ledger,
        files: Files,
        pipelines: Mapping[str, Pipeline],
        abort: Callable[[Mapping[str, Any]], Awaitable[None]] | None,
        boot: int,
    ) -> None:
        """``boot`` is the number of this start: debts that name it belong to requests that are still being served."""
        self._registry = registry
        self._ledger = ledger
        self._files = files
        self._pipelines = pipelines
        self._abort = abort
        self._boot = boot
        self._new = asyncio.Event()

    async def owe(self, task: Task, checkpoint: Mapping[str, Any]) -> None:
        """Remember what this attempt left; durable when it returns."""
        await self._ledger.owe_abort(
            {"kind": task.kind, "task_id": task.id, "attempt": task.attempt, "checkpoint": dict(checkpoint)}
        )
        self._new.set()

    def settle_soon(self) -> None:
        """Something that is owed may be settled now."""
        self._new.set()

    async def settle_forever(self) -> None:
        """Settle what is owed at the start, when something new is owed, and every few minutes what failed."""
        while True:
            self._new.clear()
            try:
                await self.settle()
            except MediagenError as exc:
                log.warning("debts_not_settled", error=exc.detail)
            try:
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._new.wait()
            except TimeoutError:
                continue

    async def settle(self) -> int:
        """Remove what is owed and can be removed; gives how many debts are left."""
        left = 0
        for debt_id, state in await self._ledger.owed_aborts(PAGE):
            if not await self._is_over(state):
                left += 1
                continue
            try:
                if not await self._is_row(state):
                    await self._remove(state)
            except Exception as exc:  # whatever a pipeline or a store raises: it stays owed
                left += 1
                log.warning("debt_left", debt=debt_id, exc_info=exc)
                continue
            await self._ledger.settle_abort(debt_id)
            log.info("debt_settled", debt=debt_id)
        return left

    async def _is_over(self, state: Mapping[str, Any]) -> bool:
        if "kind" not in state:
            return True
        if "boot" in state:
            return bool(state["boot"] != self._boot)
        try:
            task = await self._registry.get(state["task_id"])
        except NotFound:
            return True
        return task.ended or task.attempt != state["attempt"]

    async def _is_row(self, state: Mapping[str, Any]) -> bool:
        """Whether this very attempt or request was completed after all: then what it stored is a file."""
        if "kind" not in state:
            return False
        if "boot" in state:
            return await self._files.get(state["checkpoint"]["file_id"]) is not None
        try:
            task = await self._registry.get(state["task_id"])
        except NotFound:
            return False
        return task.status is TaskStatus.COMPLETED and task.attempt == state["attempt"]

    async def _remove(self, state: Mapping[str, Any]) -> None:
        if "kind" not in state:
            if self._abort is None:
                raise MediagenError("no store to abort uploads in")
            await self._abort(state)
        elif (pipeline := self._pipelines.get(state["kind"])) is not None:
            await pipeline.abandon(state["checkpoint"])
        else:
            raise MediagenError(f"no pipeline for {state['kind']}")
