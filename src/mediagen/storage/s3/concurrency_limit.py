"""How much at once a store bears: additive increase, multiplicative decrease."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_HALVED_AT_MOST_EVERY: Final = 1.0
"""Seconds; the requests that were on their way together report one congestion, not many."""


class AdaptiveLimit:
    """Bounds requests on their way. Halved when the store says "slow down", grown by one a full round of successes."""

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = float(maximum)
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._halved_at = -_HALVED_AT_MOST_EVERY

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        if self._waiting or self.in_flight >= int(self.limit):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()
                elif turn in self._waiting:  # unless somebody who left meanwhile has passed it over
                    self._waiting.remove(turn)
                raise
        else:
            self.in_flight += 1
        try:
            yield
        finally:
            self._leave()

    def succeeded(self) -> None:
        if self.limit < self.maximum:
            self.limit = min(float(self.maximum), self.limit + 1 / self.limit)
            self._serve()

    def throttled(self) -> None:
        """The store said "slow down" to a request that still has its slot: half of what is on its way was too much."""
        now = time.monotonic()
        if now - self._halved_at >= _HALVED_AT_MOST_EVERY:
            self._halved_at = now
            self.limit = max(1.0, min(self.limit, self.in_flight) / 2)

    def _leave(self) -> None:
        self.in_flight -= 1
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self.in_flight < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.cancelled():
                self.in_flight += 1
                turn.set_result(None)
