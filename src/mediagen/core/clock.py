"""What time it is, and whether to believe it.

The wall clock can be wrong at the start (no battery, no network yet), be set while the server runs, and go back. So
waits and durations are measured by a steady clock; this one is for what is shown, signed or expires. ``Clock`` watches
it: a step is told to those who keep a moment of it, and time that is not believed yet deletes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

STEP: Final = timedelta(seconds=1)
"""Smaller disagreements with the steady clock are no step."""
BEHIND: Final = timedelta(minutes=1)
AHEAD: Final = timedelta(days=1)
"""How far the wall clock may be from the time that is known to have passed. A server that was off for longer than
``AHEAD`` cannot tell its rest from a wrong clock."""
BELIEVED_AFTER: Final = 86_400.0
"""Seconds without a step after which a clock that was in doubt is believed."""


def utc_now() -> datetime:
    """The wall clock in UTC: for what is shown, signed or expires. Limits and waits use a monotonic clock."""
    return datetime.now(UTC)


def steady_seconds() -> float:
    """Seconds that never step; they count while the machine sleeps, where the system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Clock:
    """The wall clock, watched. For one event loop.

    ``known`` is the last time that was believed, as an earlier start recorded it; it goes on by the steady clock. None:
    nothing is recorded, and the wall clock is believed.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], datetime] = utc_now,
        steady: Callable[[], float] = steady_seconds,
        known: datetime | None = None,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._listeners: list[Callable[[timedelta], None]] = []
        now, at = wall(), steady()
        self._last = now, at
        self._known = (known or now), at
        self._doubted_since: float | None = None
        self._look()

    def on_step(self, listener: Callable[[timedelta], None]) -> None:
        """Call ``listener`` with each step of the wall clock, negative when it went back. It must not wait."""
        self._listeners.append(listener)

    def now(self) -> datetime:
        """The wall clock. A step since the last call is told before this returns."""
        return self._look()[0]

    def latest(self) -> datetime:
        """The wall clock, or the time that is known to have passed when that is later: for what expires.

        What has ended stays ended when the clock goes back.
        """
        now, known = self._look()
        return max(now, known)

    def known(self) -> datetime:
        """The time that is believed; to be recorded for the next start."""
        return self._look()[1]

    def doubt(self) -> timedelta | None:
        """How far the wall clock is ahead of the time that is believed (negative: behind); None: it is believed."""
        now, known = self._look()
        return None if self._doubted_since is None else now - known

    def believed_in(self) -> float:
        """Seconds until the wall clock is believed if it does not step; 0 when it is."""
        _, at = self._last
        return 0.0 if self._doubted_since is None else max(0.0, self._doubted_since + BELIEVED_AFTER - at)

    def confirm(self) -> None:
        """Believe the wall clock: somebody has looked."""
        self._look()
        self._known, self._doubted_since = self._last, None

    def _look(self) -> tuple[datetime, datetime]:
        """The wall clock and the time that is believed."""
        (was, then), now, at = self._last, self._wall(), self._steady()
        passed = timedelta(seconds=at - then)
        self._last = now, at
        step = now - was - passed
        if abs(step) >= STEP:
            for listener in self._listeners:
                listener(step)
            if self._doubted_since is not None:
                self._doubted_since = at
        known = self._known[0] + timedelta(seconds=at - self._known[1])
        if known - BEHIND <= now <= known + AHEAD:
            self._known, self._doubted_since = (now, at), None
            return now, now
        if self._doubted_since is None:
            self._doubted_since = at
        elif at - self._doubted_since >= BELIEVED_AFTER:
            self._known, self._doubted_since = (now, at), None
            return now, now
        return now, known
