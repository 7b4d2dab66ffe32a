"""Lanes: how many tasks of a sort run at once, and which of those that wait is next.

Order within a lane: by priority, then by arrival; and a task that waits gains on later ones, one point of priority
every ``SECONDS_PER_POINT``, so that a stream of urgent work never starves the rest. Because all gain alike, the
order between two waiting tasks never changes by itself: it is the order of ``arrival - priority * SECONDS_PER_POINT``,
computed once, and a sorted list is enough.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import Final, TypeAlias

SECONDS_PER_POINT: Final = 6.0
"""A task of priority 0 waits at most ten minutes longer than one of priority 100 that came at the same time."""

Place: TypeAlias = tuple[float, int, str]
"""Rank (lower first), number of arrival, task id."""


@dataclass(slots=True)
class Lane:
    """Tasks that wait for one of ``slots``."""

    slots: int
    running: int = 0
    waiting: list[Place] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A waiting task's lane, place, and when it came."""

    lane: Lane
    place: Place
    arrived: float


class LaneDispatcher:
    """Fits ``tasks.ports.Dispatcher`` inside one process.

    A lane that is not in ``lanes`` (a row of an older configuration) gets one slot. A task that is handed out is
    never handed out a second time before its handler is done; enqueued meanwhile, it waits for that.
    """

    def __init__(self, lanes: Mapping[str, int], *, seconds_per_point: float = SECONDS_PER_POINT) -> None:
        self._lanes = {name: Lane(slots) for name, slots in lanes.items()}
        self._seconds_per_point = seconds_per_point
        self._tickets: dict[str, Ticket] = {}
        self._running: set[str] = set()
        self._again: dict[str, tuple[str, int]] = {}  # enqueued while its handler was still busy: lane, priority
        self._arrivals = count()
        self._changed = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Tasks that wait, over all lanes."""
        return len(self._tickets) + len(self._again)

    @property
    def running(self) -> int:
        """Tasks that are handed out."""
        return len(self._running)

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """All lanes by name; to be read, not to be changed."""
        return self._lanes

    def enqueue(self, task_id: str, *, lane: str, priority: int) -> None:
        """Let the task wait in ``lane``; one that waits already gets the new priority and keeps its arrival."""
        if task_id in self._running:
            self._again[task_id] = (lane, priority)
            return
        if task_id in self._tickets:
            self.reprioritise(task_id, priority)
            return
        self._insert(task_id, self._lanes.setdefault(lane, Lane(1)), priority, monotonic())

    def reprioritise(self, task_id: str, priority: int) -> None:
        """Give a waiting task another priority; it keeps its arrival."""
        if task_id in self._again:
            self._again[task_id] = (self._again[task_id][0], priority)
        ticket = self._take_back(task_id)
        if ticket is not None:
            self._insert(task_id, ticket.lane, priority, ticket.arrived)

    def revoke(self, task_id: str) -> None:
        """Forget a task that waits; one that is handed out is not touched."""
        self._again.pop(task_id, None)
        self._take_back(task_id)

    def position(self, task_id: str) -> int | None:
        """How many wait before it in its lane; None when it does not wait."""
        ticket = self._tickets.get(task_id)
        return None if ticket is None else bisect_left(ticket.lane.waiting, ticket.place)

    async def run(self, handle: Callable[[str], Awaitable[None]]) -> None:
        """Hand each task id to ``handle`` until cancelled; the handlers are cancelled with it and awaited.

        A handler that raises is a fault of ours and ends everything.
        """
        async with asyncio.TaskGroup() as handlers:
            while True:
                self._changed.clear()
                for lane in self._lanes.values():
                    while lane.waiting and lane.running < lane.slots:
                        task_id = lane.waiting[0][2]
                        self._take_back(task_id)
                        lane.running += 1
                        self._running.add(task_id)
                        handlers.create_task(self._hand_out(task_id, lane, handle))
                await self._changed.wait()

    async def _hand_out(self, task_id: str, lane: Lane, handle: Callable[[str], Awaitable[None]]) -> None:
        try:
            await handle(task_id)
        finally:
            lane.running -= 1
            self._running.discard(task_id)
            again = self._again.pop(task_id, None)
            if again is not None:
                self.enqueue(task_id, lane=again[0], priority=again[1])
            self._changed.set()

    def _insert(self, task_id: str, lane: Lane, priority: int, arrived: float) -> None:
        place = (arrived - priority * self._seconds_per_point, next(self._arrivals), task_id)
        insort(lane.waiting, place)
        self._tickets[task_id] = Ticket(lane, place, arrived)
        self._changed.set()

    def _take_back(self, task_id: str) -> Ticket | None:
        ticket = self._tickets.pop(task_id, None)
        if ticket is not None:
            del ticket.lane.waiting[bisect_left(ticket.lane.waiting, ticket.place)]
        return ticket
