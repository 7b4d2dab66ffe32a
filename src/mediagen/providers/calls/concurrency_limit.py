"""How many paid calls a provider may work on at once (``net.aimd``), and how long it is left alone after a refusal.

A window ends with a refusal: of sixteen calls that were in flight together fourteen may be refused, and that halves the
limit once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from mediagen.net.aimd import AimdLimit
from mediagen.net.retry import RetryPolicy

LONGEST_PAUSE: Final = 3600.0
"""Seconds; a provider that asks for more is asked again after this, so that no answer shuts it for good."""
PAUSES: Final = RetryPolicy(base=1.0, cap=30.0)
"""After refusals that name no time."""


class ConcurrencyLimit:
    """The limit of one provider, the calls in flight, and the moment before which none is begun."""

    def __init__(self, ceiling: int, clock: Callable[[], float], *, pauses: RetryPolicy = PAUSES) -> None:
        """``clock`` gives monotonic seconds."""
        self._calls = AimdLimit(ceiling)
        self.reason = ""
        """What was said with the last refusal."""
        self._clock = clock
        self._pauses = pauses
        self._window = 0
        self._refusals = 0
        self._not_before = -math.inf

    @property
    def ceiling(self) -> int:
        return self._calls.maximum

    @property
    def limit(self) -> int:
        return self._calls.limit

    @property
    def in_flight(self) -> int:
        return self._calls.in_flight

    @property
    def has_room(self) -> bool:
        return self._calls.has_room

    @property
    def opens_in(self) -> float:
        """Seconds until a call may be begun, whatever room there is; 0: now."""
        return max(0.0, self._not_before - self._clock())

    def begin(self) -> int:
        """Count a call; gives the window that it belongs to."""
        self._calls.begin()
        return self._window

    def end(self) -> None:
        self._calls.end()

    def passed(self, window: int) -> None:
        """A call got through. One that was begun before the last refusal says nothing about the limit of now."""
        if window != self._window:
            return
        self._refusals = 0
        self._calls.succeed()

    def refused(self, window: int, reason: str, *, retry_after: float | None, crowded: bool) -> None:
        """A call was turned away. ``crowded``: for there being too many. ``retry_after``: seconds, as it was told."""
        self.reason = reason
        if window == self._window:
            self._window += 1
            self._refusals += 1
            if crowded:
                self._calls.halve()
            else:
                self._calls.restart_round()
            if retry_after is None:
                retry_after = self._pauses.delay(self._refusals)
        if retry_after is not None:
            self._not_before = max(self._not_before, self._clock() + min(retry_after, LONGEST_PAUSE))
