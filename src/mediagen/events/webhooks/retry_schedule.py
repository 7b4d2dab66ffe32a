"""What an attempt to reach a webhook means: a word for what went wrong, and when to try again. Arithmetic alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final

from mediagen.core.deliveries import DeliveryStatus
from mediagen.core.errors import (
    ConnectTimeout,
    FetchFailed,
    FetchRefused,
    InvalidRequest,
    MediagenError,
    SourceStalled,
)

MAX_RETRY_AFTER: Final = 86_400.0
"""Seconds; a receiver that asks for more is not waited for longer."""
JITTER: Final = 0.1
"""Share of a wait by which it may be longer, so that what failed together does not come back together."""


def classify_error(error: MediagenError) -> str:
    """Why no answer came."""
    if isinstance(error, InvalidRequest):
        return "url_not_allowed"
    if isinstance(error, ConnectTimeout | SourceStalled):
        return "timeout"
    if isinstance(error, FetchRefused):
        return "certificate_refused"
    return "connection_failed" if isinstance(error, FetchFailed) else error.code


def classify_status(status: int) -> str | None:
    """What is wrong with an answer of that status; None: nothing, the event was taken."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return "redirected"
    return "gone" if status == HTTPStatus.GONE else "refused"


def decide_next(
    error: str | None,
    step: int,
    now: datetime,
    *,
    schedule: Sequence[float],
    retry_after: float | None,
    chance: Callable[[], float],
) -> tuple[DeliveryStatus, datetime | None]:
    """Where a delivery stands after attempt ``step`` (from 0) of its schedule, and when it is due again.

    Args:
        error: as ``classify_error`` and ``classify_status`` give it.
        retry_after: seconds that the receiver asked for: a floor, within ``MAX_RETRY_AFTER``.
        chance: between 0 and 1.
    """
    if error is None:
        return DeliveryStatus.DELIVERED, None
    if error == "gone":
        return DeliveryStatus.DISABLED, None
    if step + 1 >= len(schedule):
        return DeliveryStatus.FAILED, None
    wait = max(schedule[step + 1], min(retry_after or 0.0, MAX_RETRY_AFTER))
    return DeliveryStatus.WAITING, now + timedelta(seconds=wait * (1 + JITTER * chance()))
