"""What happened, as far as it is remembered: the last facts, and of each task the latest reading.

A log in the order of sequence numbers out of which superseded readings are taken. Whoever reads keeps one number, the
last that was told, and pulls what came after it at any pace: facts all and in order, readings conflated. So a reader
that lags costs nothing but that number, and a thousand of them share one log.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from mediagen.core.events import Event, EventType

REMEMBERED: Final = 4096
"""Facts kept for readers that lag or come back."""

_SPARE: Final = 256
"""Entries that may be superfluous before the log is rebuilt, at least."""


class EventLog:
    """Bounded by ``remembered`` facts and a quarter more, the last reading before each of them, and one of each task.

    ``after`` is the number before the first event. Adding costs O(log n) and, seldom, one rebuilding.
    """

    def __init__(self, after: int, *, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._seqs: list[int] = []
        self._events: list[Event | None] = []
        self._readings: dict[str, int] = {}
        self._facts = 0
        self.floor = after
        """Every fact with a higher number is here."""
        self.last_fact = after
        """Number of the latest fact."""

    def add(self, event: Event) -> None:
        """Append an event; its number is higher than all before it."""
        before = self._readings.pop(event.task_id, None)
        if before is not None and event.type is EventType.PROGRESS:
            self._events[bisect_left(self._seqs, before)] = None
        self._seqs.append(event.seq)
        self._events.append(event)
        if event.type is EventType.PROGRESS:
            self._readings[event.task_id] = event.seq
        else:
            self._facts += 1
            self.last_fact = event.seq
        if self._facts > self._remembered + self._remembered // 4:
            self._forget(self._facts - self._remembered)
        elif len(self._events) > 2 * (self._facts + len(self._readings)) + _SPARE:
            self._keep([event for event in self._events if event is not None])

    def since(self, after: int, limit: int, *, settled: bool = False) -> list[Event] | None:
        """The oldest ``limit`` events with numbers above ``after``; None when facts among them are forgotten.

        ``settled``: also readings after which came a fact of their task. Those are for who follows closely.
        """
        if after < self.floor:
            return None
        at, found = bisect_right(self._seqs, after), list[Event]()
        while len(found) < limit and at < len(self._events):
            end = at + limit - len(found)
            found += [event for event in self._events[at:end] if event is not None and (settled or self._says(event))]
            at = end
        return found

    def _says(self, event: Event) -> bool:
        return event.type is not EventType.PROGRESS or self._readings.get(event.task_id) == event.seq

    def _forget(self, facts: int) -> None:
        """Drop the oldest facts, and the readings among them that a fact of their task came after."""
        kept: list[Event] = []
        for event in self._events:
            if event is None:
                continue
            if event.type is EventType.PROGRESS:
                if not facts or self._says(event):
                    kept.append(event)
            elif facts:
                facts -= 1
                self._facts -= 1
                self.floor = event.seq
            else:
                kept.append(event)
        self._keep(kept)

    def _keep(self, events: list[Event]) -> None:
        self._events = list(events)
        self._seqs = [event.seq for event in events]
