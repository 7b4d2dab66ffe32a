"""How tasks are now, as the feed says it first, and the number from which on it tells what happens.

A snapshot is one cut: its number is taken in the same turn of the loop as the values in it, so that the events after
that number are those that are not in it. Rendering takes turns with everything else. Whoever asks while nothing has
happened since, or while the one before is being made, is given the same one: a thousand at once cost one or two.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from mediagen.core.errors import NotFound, Unavailable
from mediagen.core.events import EventType
from mediagen.core.tasks import Task
from mediagen.tasks.ports import EventBus
from mediagen.web.api.views import Tasks
from mediagen.web.feed.frames import FeedMessage
from mediagen.web.feed.schemas import SnapshotView
from mediagen.web.feed.task_renderer import TaskRenderer

MAX_SNAPSHOT: Final = 500
"""Live tasks in a snapshot of all."""

_SHARED_SECONDS: Final = 1.0
"""How long a snapshot of all is given to others, when nothing but readings came meanwhile."""
_SHARED_AT_ONCE: Final = 16
"""Snapshots of all that are kept to be shared: one for each owner and base of URLs."""
_PAGE: Final = 25
"""Tasks rendered in one turn of the event loop: one or two milliseconds."""
_TRIES: Final = 5
_READ_BACK: Final = 4096
"""Events that may happen while rows are read for one snapshot."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tasks as they were just after event ``seq``. ``body``: the JSON behind ``reset``, shared by all who get it."""

    seq: int
    body: bytes
    made: float

    def message(self, *, seq: int, reset: bool) -> FeedMessage:
        """What a reader is told (``schemas.SnapshotView``); ``seq``: its events begin behind that number."""
        head = b'{"type":"snapshot","seq":%d,"reset":%s,"tasks":' % (seq, b"true" if reset else b"false")
        return FeedMessage("snapshot", seq, (head, self.body))


class SnapshotTaker:
    """Takes snapshots. ``live``: all tasks that have not ended, the oldest first."""

    def __init__(self, bus: EventBus, tasks: Tasks, live: Callable[[], list[Task]], renderer: TaskRenderer) -> None:
        self._bus = bus
        self._tasks = tasks
        self._live = live
        self._renderer = renderer
        self._shared: OrderedDict[tuple[str | None, str], Snapshot] = OrderedDict()
        self._taking = asyncio.Lock()

    async def of_all(self, base: str, *, owner: str | None) -> Snapshot:
        """All that live, the oldest first, at most ``MAX_SNAPSHOT``. ``owner``: only that one's.

        It holds every fact that was published before the call.
        """
        asked, key = self._bus.last_fact, (owner, base)
        async with self._taking:
            known = self._shared.get(key)
            if known is not None and known.seq >= asked and monotonic() - known.made < _SHARED_SECONDS:
                return known
            seq, made = self._bus.last_seq, monotonic()
            live = [task for task in self._live() if owner in (None, task.owner)]
            more = len(live) > MAX_SNAPSHOT
            taken = Snapshot(seq, await self._body(live[:MAX_SNAPSHOT], base, [], has_more=more), made)
            self._shared[key] = taken
            self._shared.move_to_end(key)
            if len(self._shared) > _SHARED_AT_ONCE:
                self._shared.popitem(last=False)
            return taken

    async def of(self, task_ids: Sequence[str], base: str, *, owner: str | None) -> Snapshot:
        """These tasks, in that order; another owner's are as unknown as those that do not exist.

        Raises:
            Unavailable: their rows cannot be read.
        """
        for _ in range(_TRIES):
            before = self._bus.last_seq
            found = {task_id: await self._found(task_id, owner) for task_id in task_ids}
            seq = self._bus.last_seq
            meanwhile = self._bus.since(before, _READ_BACK)
            if meanwhile is not None and len(meanwhile) < _READ_BACK:
                break
        else:
            raise Unavailable("the server is too busy for a snapshot; reconnect", retry_after=1)
        for event in meanwhile:
            if found.get(event.task_id) is not None:
                found[event.task_id] = None if event.type is EventType.DELETED else event.task
            elif event.task_id in found and event.type is not EventType.DELETED and owner in (None, event.task.owner):
                found[event.task_id] = event.task
        tasks = [task for task in found.values() if task is not None]
        missing = [task_id for task_id, task in found.items() if task is None]
        return Snapshot(seq, await self._body(tasks, base, missing, has_more=False), monotonic())

    async def _found(self, task_id: str, owner: str | None) -> Task | None:
        try:
            return await self._tasks.get(task_id, owner=owner)
        except NotFound:
            return None

    async def _body(self, tasks: Sequence[Task], base: str, missing: list[str], *, has_more: bool) -> bytes:
        rendered: list[bytes] = []
        for number, task in enumerate(tasks, start=1):
            rendered.append(await self._renderer.of(task, base))
            if not number % _PAGE:
                await asyncio.sleep(0)
        rest = SnapshotView(seq=0, reset=False, tasks=[], missing=missing, has_more=has_more)
        tail = rest.model_dump_json(include={"missing", "has_more"}).encode()
        return b"[%s],%s" % (b",".join(rendered), tail[1:])
