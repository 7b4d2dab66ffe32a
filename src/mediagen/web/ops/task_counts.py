"""Ended tasks, counted by kind, status and error code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from mediagen.core.errors import MediagenError
from mediagen.core.events import Event, EventType
from mediagen.web.middleware.request_counts import OTHER


class TaskCounts:
    """Counts ended tasks by kind, status and error code; listens to the bus."""

    def __init__(self, kinds: Collection[str]) -> None:
        self._kinds = frozenset(kinds)
        self._codes = frozenset(_codes(MediagenError))
        self.ended: Counter[tuple[str, str, str]] = Counter()

    def told(self, event: Event) -> None:
        """A listener of ``EventBus.listen``."""
        task = event.task
        if event.type is not EventType.STATUS or not task.ended:
            return
        code = "none" if task.error is None else task.error.code
        self.ended[
            task.kind if task.kind in self._kinds else OTHER,
            str(task.status),
            code if code in self._codes or task.error is None else OTHER,
        ] += 1


def _codes(error: type[MediagenError]) -> Iterator[str]:
    yield error.code
    for child in error.__subclasses__():
        yield from _codes(child)
