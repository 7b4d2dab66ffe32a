"""Work that takes milliseconds of the event loop, one piece a turn."""

from __future__ import annotations

import asyncio


class Turnstile:
    """Lets one coroutine through in each turn of the event loop.

    Building, signing or sending a request takes one to three milliseconds without a break. When thirty transfers do it
    in the same turn of the loop, everything else waits for all of them.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def pass_through(self) -> None:
        """Return in a turn of the loop of one's own."""
        async with self._lock:
            await asyncio.sleep(0)
