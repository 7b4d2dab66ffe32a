"""A deadline for the store alone: while a part's source keeps it waiting, the clock stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol


class WaitsForSource(Protocol):
    """Something that has had to wait for others."""

    @property
    def waited(self) -> float:
        """Seconds of it until now."""


@asynccontextmanager
async def store_deadline(seconds: float, body: WaitsForSource | None = None) -> AsyncIterator[None]:
    """Raise TimeoutError once the block has taken ``seconds``, without the time that ``body`` waited for its source."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    timer: asyncio.TimerHandle | None = None
    async with asyncio.timeout(None) as limit:

        def look() -> None:
            nonlocal timer
            left = end + (0.0 if body is None else body.waited) - loop.time()
            if left > 0:
                timer = loop.call_later(left, look)
            else:
                limit.reschedule(loop.time())

        look()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
