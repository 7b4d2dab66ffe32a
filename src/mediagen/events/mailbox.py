"""What one reader has not taken yet: facts in order and all of them, readings replaced by the latest of their task."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from mediagen.core.errors import Overloaded
from mediagen.core.events import Event, EventType

MAX_FACTS: Final = 1000
"""Facts that a reader may owe before it is cut off."""


class ReaderTooSlow(Overloaded):
    """A reader fell behind by more facts than are kept for it; it must come back and begin with a snapshot."""

    code = "reader_too_slow"


class Mailbox:
    """Events waiting for one reader, in the order of their sequence numbers.

    A reading (``task.progress``) takes the place of an older one of the same task and moves to the back, so that
    the order stays true. Bounded by ``max_facts`` facts and one reading for each task. Costs O(1) per event.
    """

    __slots__ = ("_facts", "_max_facts", "_waiting")

    def __init__(self, max_facts: int = MAX_FACTS) -> None:
        self._waiting: OrderedDict[int | str, Event] = OrderedDict()
        self._max_facts = max_facts
        self._facts = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: Event) -> None:
        """Keep ``event`` for the reader.

        Raises:
            ReaderTooSlow: it owes too many facts; the mailbox is empty afterwards.
        """
        if event.type is EventType.PROGRESS:
            self._waiting[event.task_id] = event
            self._waiting.move_to_end(event.task_id)
            return
        if self._facts >= self._max_facts:
            self._waiting.clear()
            self._facts = 0
            raise ReaderTooSlow(f"more than {self._max_facts} events were not read")
        self._waiting[event.seq] = event
        self._facts += 1

    def take(self) -> Event | None:
        """The oldest event, or None when there is none."""
        if not self._waiting:
            return None
        key, event = self._waiting.popitem(last=False)
        if isinstance(key, int):
            self._facts -= 1
        return event
