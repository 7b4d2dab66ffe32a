"""The bus inside one process.

Two ways to hear of events. ``listen`` calls a function at each of them, in the publisher's own turn of the loop and
without waking anything. ``since`` gives what came after a number, for whoever reads at a pace of its own: a listener
that only notes that there is news, and pulls it later, can fall behind without missing a fact. Everybody is given the
same ``Event`` objects, so what is made of one (a frame) can be made once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import structlog

from mediagen.core.events import Event
from mediagen.events.event_log import REMEMBERED, EventLog

log = structlog.get_logger(__name__)

Listener: TypeAlias = Callable[[Event], None]


class Listening:
    """One listener's place at the bus. ``watch`` and ``unwatch`` change its tasks; ``close`` ends it at once."""

    __slots__ = ("_bus", "callback", "everything", "task_ids")

    def __init__(self, bus: MemoryBus, task_ids: Iterable[str] | None, callback: Listener) -> None:
        self._bus = bus
        self.callback: Listener | None = callback
        self.everything = task_ids is None
        self.task_ids: set[str] = set(task_ids or ())

    def watch(self, task_id: str) -> None:
        """Be told of this task too."""
        if self.callback is not None and task_id not in self.task_ids:
            self.task_ids.add(task_id)
            self._bus._index(self, task_id)  # noqa: SLF001 - one half of the same thing

    def unwatch(self, task_id: str) -> None:
        """Be told of this task no longer."""
        if task_id in self.task_ids:
            self.task_ids.discard(task_id)
            self._bus._unindex(self, task_id)  # noqa: SLF001

    def close(self) -> None:
        """No call after this one; a second close does nothing."""
        if self.callback is not None:
            self.callback = None
            self._bus._forget(self)  # noqa: SLF001


class MemoryBus:
    """Fits ``tasks.ports.EventBus``. For one event loop; not for use from other threads.

    Sequence numbers are ``boot * 2**32 + n``: they grow over restarts as long as ``boot`` does, and stay below
    2**53 for two million starts.
    """

    def __init__(self, boot: int, *, remembered: int = REMEMBERED) -> None:
        if not 0 <= boot < 2**21:
            raise ValueError(f"boot must be below 2**21, not {boot}")
        self._seq = boot << 32
        self._log = EventLog(self._seq, remembered=remembered)
        self._all: dict[Listening, None] = {}
        self._by_task: dict[str, dict[Listening, None]] = {}

    def next_seq(self) -> int:
        """The number for the next event."""
        self._seq += 1
        return self._seq

    @property
    def last_seq(self) -> int:
        """The number given out last."""
        return self._seq

    @property
    def last_fact(self) -> int:
        """The number of the latest fact; before the first one, the number that this start began with."""
        return self._log.last_fact

    @property
    def listeners(self) -> int:
        """How many listen now, over all tasks."""
        return len(self._all) + len({listening for some in self._by_task.values() for listening in some})

    def publish(self, event: Event) -> None:
        """Tell all who listen to that task; costs as many calls as there are of them."""
        self._log.add(event)
        interested = self._by_task.get(event.task_id)
        # copies: a listener may close itself or others while it is told
        for listening in (*self._all, *(interested or ())):
            callback = listening.callback
            if callback is None:
                continue
            try:
                callback(event)
            except Exception:  # a broken reader must not stop a task: it is cut off, loudly
                log.exception("listener_failed", seq=event.seq, task_id=event.task_id)
                listening.close()

    def since(self, after: int, limit: int, *, settled: bool = False) -> list[Event] | None:
        """See ``tasks.ports.EventBus`` and ``EventLog``."""
        return self._log.since(after, limit, settled=settled) if after <= self._seq else None

    def listen(self, task_ids: Iterable[str] | None, callback: Listener) -> Listening:
        """Call ``callback`` at each event of these tasks (None: of all) until ``Listening.close``.

        It is called inside ``publish``: it must neither wait nor raise. One that raises is closed.
        """
        listening = Listening(self, task_ids, callback)
        if listening.everything:
            self._all[listening] = None
        for task_id in listening.task_ids:
            self._index(listening, task_id)
        return listening

    def _index(self, listening: Listening, task_id: str) -> None:
        if not listening.everything:
            self._by_task.setdefault(task_id, {})[listening] = None

    def _unindex(self, listening: Listening, task_id: str) -> None:
        interested = self._by_task.get(task_id)
        if interested is not None:
            interested.pop(listening, None)
            if not interested:
                del self._by_task[task_id]

    def _forget(self, listening: Listening) -> None:
        self._all.pop(listening, None)
        for task_id in listening.task_ids:
            self._unindex(listening, task_id)
