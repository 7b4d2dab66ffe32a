"""Work that is seen through although the one who asked for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Finishing:
    """Owns calls that must not be left half-way: disk calls run on in their thread, clean-ups must come to an end.

    Who waits for one may be cancelled at any moment and goes at once; ``wait`` is for the one who needs the end.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def see_through(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, which goes on when the caller is cancelled."""
        task = asyncio.ensure_future(work)  # noqa: TID251 - owned here
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at; it goes to the caller, or the caller has gone

    async def wait(self) -> None:
        """Return when nothing runs any more. Failures went to those who asked."""
        while self._running:
            await asyncio.wait(self._running)

    async def stop(self, seconds: float) -> None:
        """Give what runs ``seconds`` to end by itself, then cancel it. Returns when nothing runs any more."""
        if self._running and seconds > 0:
            await asyncio.wait(self._running, timeout=seconds)
        for task in self._running:
            task.cancel()
        await self.wait()
