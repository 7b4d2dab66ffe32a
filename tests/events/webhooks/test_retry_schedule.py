from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mediagen.core.deliveries import DeliveryStatus
from mediagen.core.errors import ConnectTimeout, FetchFailed, FetchRefused, FirstByteTimeout, Unavailable, UrlNotAllowed
from mediagen.events.webhooks.retry_schedule import (
    JITTER,
    MAX_RETRY_AFTER,
    classify_error,
    classify_status,
    decide_next,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SCHEDULE = (0.0, 5.0, 300.0)


def waits(step: int, *, retry_after: float | None = None, chance: float = 0.0) -> float | None:
    """Seconds until the next try after attempt ``step`` failed; None: there is none."""
    status, due = decide_next("refused", step, NOW, schedule=SCHEDULE, retry_after=retry_after, chance=lambda: chance)
    assert (status is DeliveryStatus.WAITING) == (due is not None)
    return None if due is None else (due - NOW).total_seconds()


def test_tries_follow_the_schedule_and_end_with_it() -> None:
    assert [waits(step) for step in range(4)] == [5, 300, None, None]
    _, due = decide_next("refused", 2, NOW, schedule=SCHEDULE, retry_after=9, chance=lambda: 0)
    assert due is None


def test_waits_are_longer_by_a_random_share() -> None:
    assert waits(1, chance=1.0) == pytest.approx(300 * (1 + JITTER))


def test_what_the_receiver_asks_for_is_a_floor_within_a_day() -> None:
    assert waits(0, retry_after=60) == 60
    assert waits(1, retry_after=60) == 300
    assert waits(0, retry_after=10**9) == MAX_RETRY_AFTER == timedelta(days=1).total_seconds()
    assert waits(2, retry_after=60) is None


@pytest.mark.parametrize(
    ("status", "word"),
    [
        *((status, None) for status in (200, 204, 299)),
        *((status, "redirected") for status in (301, 308)),
        *((status, "refused") for status in (101, 400, 429, 500, 599)),
        (410, "gone"),
    ],
)
def test_only_2xx_is_taken(status: int, word: str | None) -> None:
    assert classify_status(status) == word


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (UrlNotAllowed("x"), "url_not_allowed"),
        (ConnectTimeout("x"), "timeout"),
        (FirstByteTimeout("x"), "timeout"),
        (FetchRefused("x"), "certificate_refused"),
        (FetchFailed("x"), "connection_failed"),
        (Unavailable("x"), "unavailable"),
    ],
)
def test_why_no_answer_came(error: FetchFailed, word: str) -> None:
    assert classify_error(error) == word


def test_taken_and_gone_need_no_time() -> None:
    for error, status in ((None, DeliveryStatus.DELIVERED), ("gone", DeliveryStatus.DISABLED)):
        assert decide_next(error, 0, NOW, schedule=SCHEDULE, retry_after=5, chance=lambda: 0) == (status, None)
