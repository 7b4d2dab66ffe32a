"""How long a provider is polled about a job when its answers are of no use.

The job is paid, so a single odd answer decides nothing: a job may be unknown for a while after it was submitted, and
its result right after it has completed.
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
"""For polls that fail in a row."""
_ODD: Final = RetryPolicy(attempts=8, base=0.5, cap=5.0)
"""For answers without a status."""
_LEAST: Final = 3
"""Polls in any case."""
_SHARE: Final = 0.8
"""Share of the attempt's remaining time: an error with a reason is better than the time limit, which has none."""

NOT_YET: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY})
"""How providers answer about jobs and results that they will know in a moment."""


class PollDeadline:
    """The polls of one job by one attempt."""

    def __init__(self, run: Run, unsettled: float) -> None:
        """``unsettled``: seconds for which a job that the provider does not know yet is polled again."""
        self._run = run
        self._unsettled = unsettled
        self._failures = 0
        self._since = 0.0
        self._most = 0.0

    def reset(self) -> None:
        """The provider gave a useful answer."""
        self._failures = 0

    async def wait(self, exc: ProviderError | FetchRefused) -> None:
        """Wait until the next poll. Raises ``exc`` when another poll would not help, or there were enough."""
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
        """Seconds until the next poll; None: none would help."""
        policy = _ODD if isinstance(exc, StatusMissing) else _FAILURES
        if exc.retryable:
            return policy.delay(self._failures, exc.retry_after) if self._failures < policy.attempts else None
        if exc.context.get("status") not in NOT_YET or isinstance(exc, ContentRefused):
            return None
        if waited >= self._unsettled and self._failures >= _LEAST:
            return None
        return min(_ODD.delay(self._failures, exc.retry_after), max(0.1, self._unsettled - waited))
