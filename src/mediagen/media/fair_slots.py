"""A bounded number of slots, shared fairly between owners."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class FairSlots:
    """``count`` places. One owner holds at most half of them, rounded up; owners who wait take turns.

    Callers without an owner are not told apart, and each counts as an owner of its own.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._each = (count + 1) // 2
        self._held: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """In the order in which owners have their turns."""

    @asynccontextmanager
    async def slot(self, owner: str | None = None) -> AsyncIterator[None]:
        """Hold a place inside the block; waits for one first."""
        holder: Hashable = object() if owner is None else owner
        await self._take(holder)
        try:
            yield
        finally:
            self._give_back(holder)

    async def _take(self, holder: Hashable) -> None:
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(holder, deque()).append(given)
        self._hand_out()
        try:
            await given
        except asyncio.CancelledError:
            if given.cancelled():
                self._forget(holder, given)
            else:  # the place came together with the cancellation
                self._give_back(holder)
            raise

    def _give_back(self, holder: Hashable) -> None:
        self._free += 1
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free:
            holder = next((holder for holder in self._waiting if self._held[holder] < self._each), None)
            if holder is None:
                return
            queue = self._waiting.pop(holder)
            given = queue.popleft()
            if queue:
                self._waiting[holder] = queue  # behind all others
            if not given.done():
                self._free -= 1
                self._held[holder] += 1
                given.set_result(None)

    def _forget(self, holder: Hashable, given: asyncio.Future[None]) -> None:
        queue = self._waiting.get(holder, deque())
        if given in queue:
            queue.remove(given)
        if not queue:
            self._waiting.pop(holder, None)
