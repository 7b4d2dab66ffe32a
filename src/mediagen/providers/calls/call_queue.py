"""Whose turn it is to make a paid call of a provider: first come, first served, when the limit and the circuit allow.

Whoever waits holds nothing but its place, which it keeps when it is turned away and asks again. A short pause is waited
for; one that is longer than ``PATIENCE``, ``SHORT_PAUSE`` or what the waiting attempt has left is said at once, in
seconds. Polls of what runs already need no permit.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from itertools import count
from types import TracebackType
from typing import Final, Self

import structlog

from mediagen.core.errors import (
    ContentRefused,
    InvalidRequest,
    MediagenError,
    OutcomeUnknown,
    ProviderBudgetSpent,
    ProviderError,
    ProviderKeyRefused,
    ProviderRateLimited,
    ProviderUnavailable,
)
from mediagen.net.retry import RetryPolicy
from mediagen.providers.calls.circuit_breaker import CircuitBreaker, CircuitState
from mediagen.providers.calls.concurrency_limit import PAUSES, ConcurrencyLimit

log = structlog.get_logger(__name__)

PATIENCE: Final = 120.0
"""Seconds that a provider's own ``Retry-After`` is waited for: rates are counted by the minute, a longer one is a quota
of an hour or a day."""
SHORT_PAUSE: Final = 30.0
"""Seconds that an open circuit is waited for: a hiccup should not fail a whole queue, an outage should be said."""


class Ending(StrEnum):
    """How a paid call ended."""

    DONE = "done"
    REFUSED = "refused"
    """The request or its content; the provider works."""
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    KEY = "key_refused"
    BUDGET = "budget_spent"
    UNKNOWN = "outcome_unknown"
    FAILED = "failed"
    """Answered, with something that is of no use."""
    STOPPED = "stopped"
    """By us: a cancel, a time limit, the store."""
    NOT_ASKED = "not_asked"
    """Never made: the circuit was open, or the time that the provider named too far away."""


_ENDINGS: Final[tuple[tuple[type[MediagenError], Ending], ...]] = (
    (ProviderRateLimited, Ending.RATE_LIMITED),
    (ProviderUnavailable, Ending.UNAVAILABLE),
    (ProviderKeyRefused, Ending.KEY),
    (ProviderBudgetSpent, Ending.BUDGET),
    (OutcomeUnknown, Ending.UNKNOWN),
    (ContentRefused, Ending.REFUSED),
    (InvalidRequest, Ending.REFUSED),
    (ProviderError, Ending.FAILED),
)
_ANSWERED: Final = frozenset({Ending.DONE, Ending.REFUSED, Ending.RATE_LIMITED, Ending.FAILED})
"""The provider is there."""
_PASSED: Final = frozenset({Ending.DONE, Ending.REFUSED, Ending.FAILED})
"""And did not mind that we asked."""


def classify_ending(exc: BaseException | None) -> Ending:
    """What the exception that ended a call stands for; None: there was none."""
    if exc is None:
        return Ending.DONE
    return next((ending for error, ending in _ENDINGS if isinstance(exc, error)), Ending.STOPPED)


def is_rejected_before_start(exc: MediagenError) -> bool:
    """Whether the call was turned away at the door, by 429, 503 or a connection that never stood: it may be made again.

    A fault within (500, or one that an answer with 200 tells) is left to whoever asked.
    """
    if isinstance(exc, ProviderRateLimited):
        return True
    unavailable = HTTPStatus.SERVICE_UNAVAILABLE
    return isinstance(exc, ProviderUnavailable) and exc.context.get("status", unavailable) == unavailable


class Permit:
    """Room for one paid call; inside ``with`` it is made, and how the block is left tells how it ended."""

    def __init__(self, call_queue: CallQueue, window: int, era: int) -> None:
        self._call_queue = call_queue
        self.window = window
        self.era = era

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call_queue.end(self, exc)


@dataclass(order=True, slots=True)
class _Waiter:
    place: int
    deadline: float = field(compare=False)
    """On the clock of the queue."""
    permit: asyncio.Future[Permit] = field(compare=False)


class CallQueue:
    """Of one provider."""

    def __init__(
        self,
        name: str,
        ceiling: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        pauses: RetryPolicy = PAUSES,
    ) -> None:
        """``ceiling``: paid calls in flight at most."""
        self.name = name
        self.concurrency_limit = ConcurrencyLimit(ceiling, clock, pauses=pauses)
        self.circuit_breaker = CircuitBreaker(clock)
        self.endings: Counter[Ending] = Counter()
        self._clock = clock
        self._places = count()
        self._line: list[_Waiter] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def opens_in(self) -> float:
        """Seconds in which no call is begun; 0: calls are made."""
        return max(self.concurrency_limit.opens_in, self.circuit_breaker.opens_in)

    def place(self) -> int:
        """A place in the line, behind all that were given before."""
        return next(self._places)

    async def acquire(self, place: int, seconds_left: float, waits: Callable[[], None]) -> Permit:
        """The turn of whoever has that place. ``waits`` is called if it does not come at once.

        Raises:
            ProviderUnavailable: the circuit is open for longer than is worth waiting, or than ``seconds_left``.
            ProviderRateLimited: so is the time that the provider named. Both have ``retry_after``; nothing was asked.
        """
        waiter = _Waiter(place, self._clock() + seconds_left, asyncio.get_running_loop().create_future())
        insort(self._line, waiter)
        self.serve()
        if not waiter.permit.done():
            waits()
        try:
            return await waiter.permit
        except asyncio.CancelledError:
            if not waiter.permit.cancelled() and waiter.permit.exception() is None:  # both came at once
                self.end(waiter.permit.result(), asyncio.CancelledError())
            raise
        finally:
            if waiter in self._line:
                self._line.remove(waiter)
                self.serve()

    def serve(self) -> None:
        """Let in whoever may come in now; called by itself whenever that can have changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._send_away()
        while self._line and not self.opens_in and self.concurrency_limit.has_room and self.circuit_breaker.admits:
            waiter = self._line.pop(0)
            if not waiter.permit.done():
                waiter.permit.set_result(Permit(self, self.concurrency_limit.begin(), self.circuit_breaker.begin()))
        if self._line and (pause := self._next_look()):
            self._timer = asyncio.get_running_loop().call_later(pause, self.serve)

    def end(self, permit: Permit, exc: BaseException | None) -> None:
        """The call of that turn is over."""
        ending = classify_ending(exc)
        self.endings[ending] += 1
        self.concurrency_limit.end()
        was, limit = self.circuit_breaker.state, self.concurrency_limit.limit
        if isinstance(exc, MediagenError) and is_rejected_before_start(exc):
            crowded = ending is Ending.RATE_LIMITED or "status" in exc.context
            self.concurrency_limit.refused(permit.window, exc.detail, retry_after=exc.retry_after, crowded=crowded)
        elif ending in _PASSED:
            self.concurrency_limit.passed(permit.window)
        if ending in _ANSWERED:
            self.circuit_breaker.answered(permit.era)
        elif ending is Ending.STOPPED or not isinstance(exc, MediagenError):
            self.circuit_breaker.ended(permit.era)
        else:
            self.circuit_breaker.failed(permit.era, exc.detail, account=_is_of_the_account(ending, exc))
        self._tell(was, limit)
        self.serve()

    def _next_look(self) -> float | None:
        """Seconds until time alone changes who may come in; None: it does not."""
        finding_out = self.circuit_breaker.found_out_for
        return self.opens_in or (None if finding_out is None else max(0.0, PATIENCE - finding_out))

    def _send_away(self) -> None:
        """Tell those that cannot wait so long."""
        now = self._clock()
        for waiter in tuple(self._line):
            error = self._too_long(waiter.deadline - now)
            if error is None:
                continue
            self._line.remove(waiter)
            if not waiter.permit.done():
                self.endings[Ending.NOT_ASKED] += 1
                waiter.permit.set_exception(error)

    def _too_long(self, patience: float) -> MediagenError | None:
        """Why whoever has so many seconds left does not wait; None: it does."""
        shut, asked, about = self.circuit_breaker.opens_in, self.concurrency_limit.opens_in, {"provider": self.name}
        if shut > min(SHORT_PAUSE, patience):
            text = f"{self.name} is not asked for another {math.ceil(shut)} s: {self.circuit_breaker.reason}"
            return ProviderUnavailable(text, retry_after=max(shut, asked), **about)
        if asked > min(PATIENCE, patience):
            text = f"{self.name} is not asked for another {math.ceil(asked)} s: {self.concurrency_limit.reason}"
            return ProviderRateLimited(text, retry_after=asked, **about)
        if (self.circuit_breaker.found_out_for or 0.0) >= PATIENCE:
            text = f"a call finds out whether {self.name} works again, and takes long: {self.circuit_breaker.reason}"
            return ProviderUnavailable(text, retry_after=SHORT_PAUSE, **about)
        return None

    def _tell(self, was: CircuitState, limit: int) -> None:
        now, about = self.circuit_breaker.state, {"provider": self.name}
        if now is CircuitState.OPEN and was is not now:
            pause = round(self.circuit_breaker.opens_in, 1)
            log.warning("circuit_opened", **about, pause=pause, reason=self.circuit_breaker.reason)
        elif now is CircuitState.CLOSED and was is not now:
            log.info("circuit_closed", **about)
        if self.concurrency_limit.limit < limit:
            log.info(
                "limit_halved",
                **about,
                limit=self.concurrency_limit.limit,
                pause=round(self.concurrency_limit.opens_in, 1),
            )


def _is_of_the_account(ending: Ending, exc: MediagenError) -> bool:
    """Whether every call would end so. 403 can be of one model alone, so it takes several in a row."""
    return ending is Ending.BUDGET or (ending is Ending.KEY and exc.context.get("status") != HTTPStatus.FORBIDDEN)
