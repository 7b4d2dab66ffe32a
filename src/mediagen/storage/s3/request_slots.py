"""Bounds the requests that are in flight to a store by what the store accepts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mediagen.net.aimd import AimdLimit

_HALVED_AT_MOST_EVERY: Final = 1.0
"""Seconds; requests that were in flight together report one congestion, not many."""


class RequestSlots:
    """A slot for each request that the store accepts (``AimdLimit``); requests wait in order for theirs."""

    def __init__(self, maximum: int) -> None:
        self._aimd = AimdLimit(maximum)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._halved_at = -_HALVED_AT_MOST_EVERY

    @property
    def limit(self) -> int:
        return self._aimd.limit

    @property
    def in_flight(self) -> int:
        return self._aimd.in_flight

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot inside the block; waits for one first."""
        if self._waiting or not self._aimd.has_room:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()
                elif turn in self._waiting:  # unless another that left meanwhile has passed it over
                    self._waiting.remove(turn)
                raise
        else:
            self._aimd.begin()
        try:
            yield
        finally:
            self._leave()

    def succeed(self) -> None:
        """The store carried out a request that still holds its slot."""
        self._aimd.succeed()
        self._serve()

    def throttle(self) -> None:
        """The store answered "slow down" to a request that still holds its slot: halve what is in flight."""
        now = time.monotonic()
        if now - self._halved_at >= _HALVED_AT_MOST_EVERY:
            self._halved_at = now
            self._aimd.halve(self._aimd.in_flight)

    def _leave(self) -> None:
        self._aimd.end()
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._aimd.has_room:
            turn = self._waiting.popleft()
            if not turn.cancelled():
                self._aimd.begin()
                turn.set_result(None)
