"""How long a provider is asked about work that it took on, when what it answers is of no use.

What it made is paid, so one odd answer decides nothing: a job may be unknown for a while after it was begun, and its
result right after it is done.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Final

import structlog

from mediagen.core.errors import ContentRefused, FetchRefused, ProviderError, StatusMissing
from mediagen.net.retry import RetryPolicy
from mediagen.pipelines.base import Run

log = structlog.get_logger(__name__)

_FAILURES: Final = RetryPolicy(attempts=8, base=0.5, cap=15.0)
"""Questions that may fail one after the other."""
_ODD: Final = RetryPolicy(attempts=8, base=0.5, cap=5.0)
"""The same of answers that come, and tell nothing."""
_LEAST: Final = 3
"""Questions in any case."""
_SHARE: Final = 0.8
"""Of the time that the attempt has left: an error that says why comes before the limit, which does not."""

NOT_YET: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY})
"""How providers answer about what they will know in a moment."""


class PollDeadline:
    """Of one attempt with one job."""

    def __init__(self, run: Run, unsettled: float) -> None:
        """``unsettled``: seconds for which it is asked again about what it does not know yet."""
        self._run = run
        self._unsettled = unsettled
        self._failures = 0
        self._since = 0.0
        self._most = 0.0

    def reset(self) -> None:
        """The provider said something of use."""
        self._failures = 0

    async def wait(self, exc: ProviderError | FetchRefused) -> None:
        """Wait until it can be asked again. Raises ``exc`` when that does not help, or has not so far."""
        if self._failures == 0:
            self._since, self._most = time.monotonic(), self._run.seconds_left * _SHARE
        self._failures += 1
        waited = time.monotonic() - self._since
        pause = self._pause(exc, waited)
        if pause is None or waited + pause > self._most:
            raise exc
        log.info("looked_in_vain", failures=self._failures, pause=round(pause, 1), reason=exc.detail)
        await asyncio.sleep(pause)

    def _pause(self, exc: ProviderError | FetchRefused, waited: float) -> float | None:
        """Seconds; None: it is of no use."""
        policy = _ODD if isinstance(exc, StatusMissing) else _FAILURES
        if exc.retryable:
            return policy.delay(self._failures, exc.retry_after) if self._failures < policy.attempts else None
        if exc.context.get("status") not in NOT_YET or isinstance(exc, ContentRefused):
            return None
        if waited >= self._unsettled and self._failures >= _LEAST:
            return None
        return min(_ODD.delay(self._failures, exc.retry_after), max(0.1, self._unsettled - waited))
