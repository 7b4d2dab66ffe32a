"""The JSON of tasks as the feed tells it: rendered once for each value of a task, and shared by all who are told.

What moves while a task stays as it is (the time since it began, its place in the queue) is left open in what is kept,
and filled in each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mediagen.core.clock import utc_now
from mediagen.core.events import Event
from mediagen.core.tasks import Task
from mediagen.streams.base import MIB
from mediagen.tasks.timing import elapsed_seconds
from mediagen.web.api.views import Tasks, Views
from mediagen.web.feed.frames import FeedMessage
from mediagen.web.http.json_output import as_json

MAX_KEPT_BYTES: Final = 16 * MIB
"""JSON that is kept, all tasks together."""

# the first of their kind in a task's JSON: only names, numbers and words of ours stand before them
_ELAPSED: Final = b'"elapsed_seconds":'
_POSITION: Final = b'"queue_position":'


@dataclass(frozen=True, slots=True)
class _Kept:
    task: Task
    before: bytes
    between: bytes
    after: bytes

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def filled(self, elapsed: float, position: int | None) -> bytes:
        place = b"null" if position is None else b"%d" % position
        return b"%s%.3f%s%s%s" % (self.before, elapsed, self.between, place, self.after)


class TaskRenderer:
    """Renders tasks for the feed. Bounded by ``MAX_KEPT_BYTES``."""

    def __init__(self, views: Views, tasks: Tasks, *, now: Callable[[], datetime] = utc_now) -> None:
        self._views = views
        self._tasks = tasks
        self._now = now
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._bytes = 0
        self.rendered = 0
        """How often a task was rendered anew."""

    async def of(self, task: Task, base: str) -> bytes:
        """``task`` as JSON for readers that reach us at ``base``.

        Raises:
            Unavailable: files of its result cannot be looked up.
        """
        kept = self._kept.get((task.id, base))
        if kept is None or kept.task is not task:
            kept = await self._render(task, base)
        return kept.filled(elapsed_seconds(task, self._now()), self._tasks.position(task))

    async def event(self, event: Event, base: str) -> FeedMessage:
        """The feed's message for ``event`` (``schemas.EventView``)."""
        head = b'{"type":"%s","seq":%d,"task_id":"%s","task":' % (
            event.type.encode(),
            event.seq,
            event.task_id.encode(),
        )
        return FeedMessage(event.type, event.seq, (head, await self.of(event.task, base), b"}"))

    async def _render(self, task: Task, base: str) -> _Kept:
        self.rendered += 1
        text = as_json(await self._views.task(task, base))
        before, name, rest = text.partition(_ELAPSED)
        between, place, after = rest[rest.index(b",") :].partition(_POSITION)
        kept = _Kept(task, before + name, between + place, after[after.index(b",") :])
        if task.result is None:  # a result has links, which end, and files, which may be deleted
            self._keep((task.id, base), kept)
        else:
            self._drop((task.id, base))
        return kept

    def _keep(self, key: tuple[str, str], kept: _Kept) -> None:
        self._drop(key)
        self._kept[key] = kept
        self._bytes += kept.size
        while self._bytes > MAX_KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[str, str]) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= kept.size
