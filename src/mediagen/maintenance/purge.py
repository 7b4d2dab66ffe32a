"""Deletes tasks whose history is over, a little at a time, so that no request waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import structlog

from mediagen.core.clock import Clock
from mediagen.core.errors import MediagenError
from mediagen.tasks.registry import Registry

log = structlog.get_logger(__name__)

EVERY_SECONDS: Final = 3600.0
SLICE_SECONDS: Final = 0.03
"""How long one write may take: the writes of requests wait behind it."""
REST: Final = 0.25
"""Seconds without one, for each second of writing: what has come meanwhile goes first."""
_FIRST_TASKS: Final = 200
_MOST_TASKS: Final = 2000
_FIRST_PAGES: Final = 64
_MOST_PAGES: Final = 1024


class HistoryPurge:
    """Purges ended tasks after ``days``; 0 keeps them for ever. The file of the database then gives up its free pages.

    Nothing is deleted by a clock that is in doubt: what it calls old may be of today.
    """

    def __init__(self, registry: Registry, clock: Clock, *, days: float) -> None:
        self._registry = registry
        self._clock = clock
        self._days = days

    async def run(self) -> None:
        """Purge now and every hour."""
        while self._days:
            try:
                if deleted := await self.purge():
                    log.info("history_purged", tasks=deleted)
                    await _in_slices(self._shrink, first=_FIRST_PAGES, most=_MOST_PAGES)
            except MediagenError as exc:
                log.warning("history_not_purged", error=exc.detail)
            await asyncio.sleep(EVERY_SECONDS)

    async def purge(self) -> int:
        """Delete all tasks that ended long enough ago; gives their number."""
        return await _in_slices(self._delete, first=_FIRST_TASKS, most=_MOST_TASKS)

    async def _delete(self, limit: int) -> tuple[int, bool]:
        if (doubt := self._clock.doubt()) is not None:
            log.warning("purge_waits_for_the_clock", ahead_seconds=round(doubt.total_seconds()))
            return 0, False
        before = self._clock.now() - timedelta(days=self._days)
        deleted = await self._registry.purge(ended_before=before, limit=limit)
        return deleted, deleted == limit

    async def _shrink(self, pages: int) -> tuple[int, bool]:
        return pages, await self._registry.shrink(pages) > 0


async def _in_slices(work: Callable[[int], Awaitable[tuple[int, bool]]], *, first: int, most: int) -> int:
    """Call ``work`` with as much as it does in ``SLICE_SECONDS``, while it says that there is more; gives the sum."""
    total, size, more = 0, first, True
    while more:
        began = time.monotonic()
        done, more = await work(size)
        seconds = time.monotonic() - began
        total += done
        size = max(1, min(most, 2 * size, round(size * SLICE_SECONDS / max(seconds, 1e-6))))
        await asyncio.sleep(REST * seconds)
    return total
