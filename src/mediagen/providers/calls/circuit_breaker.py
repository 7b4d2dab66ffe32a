"""Whether a provider is asked at all: after failures in a row it is left alone for a while.

closed ──failures in a row──▶ open ──the pause is over──▶ half_open ──one call: it got an answer──▶ closed
                               ▲                              │
                               └──────── it failed ───────────┘   (the pause doubles)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Final

from mediagen.core.clock import utc_now

FAILURES: Final = 5
"""In a row, with no answer between them, until it opens."""
FIRST_PAUSE: Final = 5.0
ACCOUNT_PAUSE: Final = 60.0
"""The first pause when the account itself is refused: somebody has to do something about that."""
LONGEST_PAUSE: Final = 300.0


class CircuitState(StrEnum):
    """State of a circuit breaker. ``open``: no calls; ``half_open``: one call tests the provider."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """Of one provider. ``clock`` gives monotonic seconds; a call says how it ended with what ``begin`` gave it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.since: datetime = utc_now()
        """When it closed, or opened after it had been closed."""
        self.reason: str | None = None
        """Why it is not closed."""
        self._clock = clock
        self._closed = True
        self._failures = 0
        self._pause = 0.0
        self._until = -math.inf
        self._probe_began: float | None = None
        self._era = 0

    @property
    def state(self) -> CircuitState:
        if self._closed:
            return CircuitState.CLOSED
        return CircuitState.OPEN if self.opens_in > 0 else CircuitState.HALF_OPEN

    @property
    def opens_in(self) -> float:
        """Seconds until a call may be begun; 0: now, or when the one that finds out has ended."""
        return 0.0 if self._closed else max(0.0, self._until - self._clock())

    @property
    def admits(self) -> bool:
        return self._closed or (self.opens_in == 0 and self._probe_began is None)

    @property
    def found_out_for(self) -> float | None:
        """Seconds since the call was begun that finds out; None: there is none."""
        return None if self._probe_began is None else self._clock() - self._probe_began

    def begin(self) -> int:
        """Count a call; gives the era that it belongs to."""
        if not self._closed:
            self._probe_began = self._clock()
            self._era += 1
        return self._era

    def answered(self, era: int) -> None:
        """The provider is there, whatever it said."""
        if era != self._era:  # begun before it opened: only the call that finds out counts
            return
        self._failures = 0
        if not self._closed:
            self._closed, self._probe_began = True, None
            self._era += 1
            self._pause = 0.0
            self.since, self.reason = utc_now(), None

    def failed(self, era: int, reason: str, *, account: bool) -> None:
        """The provider is not there. ``account``: it will not have us, so one such answer is enough."""
        if era != self._era:
            return
        self._failures += 1
        if self._closed and not account and self._failures < FAILURES:
            return
        if self._closed:
            self.since = utc_now()
        self._closed, self._probe_began = False, None
        self._era += 1
        self._pause = min(LONGEST_PAUSE, max(self._pause * 2, ACCOUNT_PAUSE if account else FIRST_PAUSE))
        self._until = self._clock() + self._pause
        self.reason = reason

    def ended(self, era: int) -> None:
        """The call ended without telling anything (it was cancelled): the next one finds out."""
        if era == self._era:
            self._probe_began = None
