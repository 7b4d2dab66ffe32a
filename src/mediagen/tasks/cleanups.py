"""Work that may outlive the one who began it, for a bounded time, and always has an owner."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")

LINGER_SECONDS: Final = 20.0
"""How long a clean-up may go on after the one who began it stopped waiting."""


class CleanUps:
    """Owns coroutines; none of them is forgotten, none goes on for ever."""

    def __init__(self, linger_seconds: float = LINGER_SECONDS) -> None:
        self._linger_seconds = linger_seconds
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin ``work``; the caller looks at how it ends, or gives it to ``linger``."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def within(self, work: Coroutine[Any, Any, None], seconds: float, what: str) -> bool:
        """Whether ``work`` was done within ``seconds``; if not, it goes on by itself for a while."""
        running = self.start(work)
        await asyncio.wait({running}, timeout=seconds)
        if not running.done():
            self.linger(running, what)
            return False
        if running.cancelled():
            return False
        if (exc := running.exception()) is not None:
            log.warning("clean_up_failed", what=what, exc_info=exc)
            return False
        return True

    def linger(self, work: asyncio.Task[Any], what: str) -> None:
        """Wait for ``work`` no longer; it is cancelled when it does not end by itself."""
        log.warning("clean_up_lingers", what=what)
        timer = asyncio.get_running_loop().call_later(self._linger_seconds, work.cancel)

        def ended(done: asyncio.Task[Any]) -> None:
            timer.cancel()
            if not done.cancelled() and (exc := done.exception()) is not None:
                log.warning("clean_up_failed", what=what, exc_info=exc)

        work.add_done_callback(ended)

    async def finish(self, seconds: float) -> None:
        """Wait ``seconds`` for all of it, then cancel the rest and wait another second."""
        if not self._running:
            return
        _, late = await asyncio.wait(set(self._running), timeout=seconds)
        for work in late:
            work.cancel()
        if late:
            _, stuck = await asyncio.wait(late, timeout=1)
            if stuck:
                log.error("clean_ups_stuck", number=len(stuck))
