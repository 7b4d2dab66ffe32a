"""At most so many calls a second for each key: the first at once, the last always."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Throttle:
    """Calls ``emit(key)`` for touches of a key, at most once per ``interval`` seconds for each key.

    The first touch is passed on at once; those within the interval after it are passed on together when it ends.
    ``emit`` reads the present value itself, so what it passes on is always the latest. At most one timer a key
    exists; ``flush``, ``drop`` and ``close`` leave none behind. Not for use from other threads.
    """

    def __init__(self, interval: float, emit: Callable[[str], None]) -> None:
        self._interval = interval
        self._emit = emit
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._pending: set[str] = set()

    def touch(self, key: str) -> None:
        """There is something new about ``key``."""
        if key in self._timers:
            self._pending.add(key)
            return
        self._timers[key] = asyncio.get_running_loop().call_later(self._interval, self._due, key)
        self._emit(key)

    def flush(self, key: str) -> None:
        """Pass on what waits for ``key`` now, and forget the key: its next touch passes at once."""
        waiting = key in self._pending
        self.drop(key)
        if waiting:
            self._emit(key)

    def drop(self, key: str) -> None:
        """Forget ``key`` and what waits for it."""
        self._pending.discard(key)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Forget everything."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._pending.clear()

    def _due(self, key: str) -> None:
        del self._timers[key]
        if key in self._pending:
            self._pending.discard(key)
            self._timers[key] = asyncio.get_running_loop().call_later(self._interval, self._due, key)
            self._emit(key)
