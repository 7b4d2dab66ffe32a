"""Retry arithmetic. The loops are where the thing to repeat is known."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

MAX_RETRY_AFTER: Final = 300.0
"""Seconds; a server that asks for more is not waited for longer."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter. Times in seconds."""

    attempts: int = 3
    base: float = 0.25
    cap: float = 20.0
    random: Callable[[], float] = random.random  # noqa: S311 - jitter is no secret

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """How long to wait after the ``failures``-th failure in a row (from 1).

        The other side's ``retry_after`` is a floor, with a little jitter on top so that not all come back at once.
        """
        ceiling = min(self.cap, self.base * 2.0 ** min(failures - 1, 30))
        if retry_after is None:
            return ceiling * self.random()
        return min(MAX_RETRY_AFTER, max(0.0, retry_after)) + min(ceiling, 1.0) * self.random()


def parse_retry_after(value: str | None) -> float | None:
    """Seconds from a ``Retry-After`` field: a number or a date (RFC 9110 section 10.2.3); None when absent or wrong."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - time.time())
