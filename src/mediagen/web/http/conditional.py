"""Conditions of a request for a file (RFC 9110 section 13). Pure functions over headers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final

from multidict import CIMultiDictProxy

from mediagen.web.http.problems import PreconditionFailed

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY: Final = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)
"""The three forms of section 5.6.7, all of which a recipient must understand."""

_TAG: Final = r'(?:W/)?"[\x21\x23-\x7e\x80-\U0010ffff]*"'
_ONE_TAG: Final = re.compile(_TAG)
_TAGS: Final = re.compile(rf"[ \t,]*+(?:{_TAG}[ \t]*+(?:,[ \t,]*+|\Z))*+")
"""A list of tags; empty elements count for nothing (section 5.6.1.2)."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What identifies the present content: a strong tag without quotes, and its time of making."""

    etag: str
    modified: datetime

    @property
    def last_modified(self) -> str:
        """As an HTTP date, to the second."""
        return format_datetime(self.since, usegmt=True)

    @property
    def since(self) -> datetime:
        """The time of making as a client knows it: to the second."""
        return self.modified.replace(microsecond=0)


def unchanged(headers: CIMultiDictProxy[str], validators: Validators) -> bool:
    """Whether the caller's copy is still good, so that 304 is the answer. In the order of section 13.2.2.

    Raises:
        PreconditionFailed: the caller wants other content than there is.
    """
    if (tags := _joined(headers, "If-Match")) is not None:
        if not _names(tags, validators.etag, weak=False):
            raise PreconditionFailed("the file does not match If-Match")
    elif (date := _one_date(headers, "If-Unmodified-Since")) is not None and validators.since > date:
        raise PreconditionFailed("the file is newer than If-Unmodified-Since")
    if (tags := _joined(headers, "If-None-Match")) is not None:
        return _names(tags, validators.etag, weak=True)
    date = _one_date(headers, "If-Modified-Since")
    return date is not None and validators.since <= date


def range_holds(headers: CIMultiDictProxy[str], validators: Validators) -> bool:
    """Whether ``If-Range`` lets the range be taken: it is absent, or names this content (section 13.1.5).

    A tag must be strong. The date is a strong validator too, since the content of a file never changes.
    """
    given = headers.getall("If-Range", [])
    if not given:
        return True
    if len(given) > 1:
        return False
    condition = given[0].strip(" \t")
    if _ONE_TAG.fullmatch(condition):
        return condition == f'"{validators.etag}"'
    return parse_date(condition) == validators.since


def parse_date(text: str) -> datetime | None:
    """An HTTP date (section 5.6.7), or None for anything else. The day of the week is not held against it."""
    match = next((match for pattern in _DATES if (match := pattern.fullmatch(text))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:  # the century that makes it at most 50 years ahead
        now = datetime.now(UTC).year
        year += now // 100 * 100
        year -= 100 if year > now + 50 else 0
    leap = match["second"] == "60"
    try:
        date = datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            59 if leap else int(match["second"]),
            tzinfo=UTC,
        )
        return date + timedelta(seconds=leap)
    except (ValueError, OverflowError):
        return None


def _one_date(headers: CIMultiDictProxy[str], name: str) -> datetime | None:
    """The date of a header; None when it is absent, no date, or given twice, all of which mean: ignore it."""
    given = headers.getall(name, [])
    return parse_date(given[0].strip(" \t")) if len(given) == 1 else None


def _joined(headers: CIMultiDictProxy[str], name: str) -> str | None:
    """A header that is a list, which may come in several lines (section 5.3)."""
    given = headers.getall(name, [])
    return ", ".join(given) if given else None


def _names(tags: str, etag: str, *, weak: bool) -> bool:
    """Whether a list of tags, or ``*``, names ``etag``; what is no list names nothing."""
    if tags.strip(" \t") == "*":
        return True
    if not _TAGS.fullmatch(tags):
        return False
    wanted = {f'"{etag}"', f'W/"{etag}"'} if weak else {f'"{etag}"'}
    return any(tag in wanted for tag in _ONE_TAG.findall(tags))
