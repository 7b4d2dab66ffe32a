"""The bus inside one process.

Two ways to listen. ``subscribe`` gives a reader its own mailbox and wakes it; right for a few hundred readers that
each write at their own pace (Server-Sent Events). ``listen`` calls a function at each event, in the publisher's own
turn of the loop and without waking anything; right for thousands of WebSockets. Every listener of one ``publish`` is
given the same ``Event`` object, so the frame is built once:

    def told(event: Event) -> None:             # one for each socket, or one for all of them
        frame = frames.of(event)                # built when ``event`` is not the one of the call before
        if transport.get_write_buffer_size():   # the client reads too slowly: keep, conflated
            mailbox.put(event)                  # raises ReaderTooSlow: close with 1013
        else:
            transport.write(frame)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import structlog

from mediagen.core.events import Event, EventType
from mediagen.events.mailbox import MAX_FACTS, Mailbox, ReaderTooSlow

log = structlog.get_logger(__name__)

REMEMBERED: Final = 4096
"""Facts kept for readers that come back."""

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

    def __init__(self, boot: int, *, remembered: int = REMEMBERED, max_facts: int = MAX_FACTS) -> None:
        if not 0 <= boot < 2**21:
            raise ValueError(f"boot must be below 2**21, not {boot}")
        self._seq = boot << 32
        self._ring: deque[Event] = deque(maxlen=remembered)
        self._floor = self._seq  # everything after this number is in the ring
        self._max_facts = max_facts
        self._all: dict[Listening, None] = {}
        self._by_task: dict[str, dict[Listening, None]] = {}
        self._readers: set[Reader] = set()
        self._closed = False

    def next_seq(self) -> int:
        """The number for the next event."""
        self._seq += 1
        return self._seq

    @property
    def last_seq(self) -> int:
        """The number given out last."""
        return self._seq

    @property
    def readers(self) -> int:
        """How many listen now, over all tasks."""
        return len(self._all) + len({listening for some in self._by_task.values() for listening in some})

    def publish(self, event: Event) -> None:
        """Tell all who listen to that task; costs as many calls as there are of them."""
        if event.type is not EventType.PROGRESS:
            if len(self._ring) == self._ring.maxlen:
                self._floor = self._ring[0].seq
            self._ring.append(event)
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

    def replay(self, after: int, task_ids: frozenset[str] | None) -> list[Event] | None:
        """Facts with ``seq`` > ``after`` about these tasks; None when some may be missing."""
        if not self._floor <= after <= self._seq:
            return None
        return [event for event in self._ring if event.seq > after and (task_ids is None or event.task_id in task_ids)]

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

    @asynccontextmanager
    async def subscribe(self, task_ids: frozenset[str] | None) -> AsyncIterator[Reader]:
        """A reader of events of these tasks (None: of all) from now on."""
        reader = Reader(self._max_facts)
        listening = self.listen(task_ids, reader.put)
        self._readers.add(reader)
        if self._closed:
            reader.end()
        try:
            yield reader
        finally:
            self._readers.discard(reader)
            listening.close()
            reader.end()

    def close(self) -> None:
        """End every reader's iteration, after what it has waiting; for the shutdown."""
        self._closed = True
        for reader in self._readers:
            reader.end()

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


class Reader:
    """Fits ``tasks.ports.Subscription``: one mailbox and the reader that waits at it."""

    def __init__(self, max_facts: int) -> None:
        self._mailbox = Mailbox(max_facts)
        self._waiter: asyncio.Future[None] | None = None
        self._cut: ReaderTooSlow | None = None
        self._ended = False

    def put(self, event: Event) -> None:
        if self._ended or self._cut is not None:
            return
        try:
            self._mailbox.put(event)
        except ReaderTooSlow as exc:
            self._cut = exc
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises ReaderTooSlow when this reader was cut off, ends when the bus closes."""
        while True:
            if self._cut is not None:
                raise self._cut
            event = self._mailbox.take()
            if event is not None:
                return event
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
