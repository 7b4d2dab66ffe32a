"""How long clean-ups may take: less from the moment that the process is about to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class CleanupDeadlines:
    """Deadlines that all come sooner once there is a hurry."""

    def __init__(self) -> None:
        self.most = float("inf")
        """Seconds that a clean-up may still take."""
        self._running: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Raise TimeoutError once the block has taken ``seconds``, or as long as there is left."""
        async with asyncio.timeout(min(seconds, self.most)) as limit:
            self._running.add(limit)
            try:
                yield
            finally:
                self._running.discard(limit)

    def hurry(self, seconds: float) -> None:
        """Whatever runs or begins from now on takes ``seconds`` at most."""
        self.most = seconds
        end = asyncio.get_running_loop().time() + seconds
        for limit in self._running:
            if (when := limit.when()) is not None and when > end:
                limit.reschedule(end)
