from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.net.retry import MAX_RETRY_AFTER, RetryPolicy, parse_retry_after

ASKED = st.none() | st.floats(-1e6, 1e9)


@given(st.integers(1, 10_000), ASKED, st.floats(0, 0.999999))
def test_a_delay_is_bounded_and_never_shorter_than_what_was_asked_for(
    failures: int, retry_after: float | None, luck: float
) -> None:
    policy = RetryPolicy(random=lambda: luck)

    delay = policy.delay(failures, retry_after)

    assert 0 <= delay <= MAX_RETRY_AFTER + 1
    if retry_after is None:
        assert delay <= policy.cap
    else:
        assert delay >= min(MAX_RETRY_AFTER, max(0.0, retry_after))


@given(st.integers(1, 60), st.floats(0.01, 0.99))
def test_delays_grow_until_the_cap(failures: int, luck: float) -> None:
    policy = RetryPolicy(random=lambda: luck)

    assert policy.delay(failures) <= policy.delay(failures + 1)
    assert policy.delay(failures) == pytest.approx(min(policy.cap, policy.base * 2 ** (failures - 1)) * luck)


def test_delays_are_jittered() -> None:
    policy = RetryPolicy()

    assert len({policy.delay(8) for _ in range(20)}) > 10
    assert len({policy.delay(8, 5.0) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("9" * 400, 999_999_999.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 0001 00:00:00 -0000", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("Wed, 21 Oct 2015 07:28:00 +9999", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds or (
        seconds is None and (parse_retry_after(value) or 0) > MAX_RETRY_AFTER
    )


def test_a_date_says_how_long_to_wait() -> None:
    seconds = parse_retry_after(formatdate(time.time() + 90, usegmt=True))

    assert seconds is not None
    assert 85 <= seconds <= 91


NUMBERS = st.integers(0, 99_999)
DATES = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Mon", "Tue", "x", ""]),
    NUMBERS,
    st.sampled_from(["Jan", "Dec", "Foo", ""]),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.sampled_from(["GMT", "-0000", "+2400", "-9959", "EST", ""]),
)


@given(st.text(max_size=40) | DATES)
def test_any_text_is_a_time_or_none(value: str) -> None:
    seconds = parse_retry_after(value)

    assert seconds is None or seconds >= 0
