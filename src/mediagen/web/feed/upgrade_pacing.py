"""Those who come to stay let those pass who have a short question.

A connection that opens a feed costs ten times what it costs to take a connection in. When a thousand readers come at
once, as after a restart, whoever comes behind them would wait for a thousand feeds to be opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

PATIENCE_SECONDS: Final = 0.02
"""How long one waits for a turn in which nobody arrives; where somebody always does, feeds are opened this often."""


class UpgradePacer:
    """Lets one coroutine through in each turn of the event loop, and in quiet turns alone while there are such.

    ``arrivals`` changes whenever a connection comes.
    """

    def __init__(self, arrivals: Callable[[], int]) -> None:
        self._arrivals = arrivals
        self._lock = asyncio.Lock()

    async def pass_through(self) -> None:
        """Return in a turn of the loop of one's own."""
        async with self._lock:
            ends = monotonic() + PATIENCE_SECONDS
            arrived = None
            while arrived != self._arrivals() and monotonic() < ends:
                arrived = self._arrivals()
                await asyncio.sleep(0)
