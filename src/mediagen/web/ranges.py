"""Conditions and ranges of a request for a file (RFC 9110 sections 13 and 14). Pure functions over headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

from mediagen.web.problems import PreconditionFailed, RangeNotSatisfiable

_ONE_RANGE: Final = re.compile(r"bytes\s*=\s*(?:(?P<first>\d{1,18})-(?P<last>\d{0,18})|-(?P<suffix>\d{1,18}))\s*", re.I)
_TAG: Final = re.compile(r'(?P<weak>W/)?"(?P<value>[\x21\x23-\x7e\x80-\xff]*)"')


@dataclass(frozen=True, slots=True)
class Validators:
    """What identifies the present content: a strong tag without quotes, and its time of making."""

    etag: str
    modified: datetime

    @property
    def last_modified(self) -> str:
        """As an HTTP date, to the second."""
        return format_datetime(self.modified.replace(microsecond=0), usegmt=True)


def unchanged(headers: Mapping[str, str], validators: Validators) -> bool:
    """Whether the caller's copy is still good, so that 304 is the answer.

    Raises:
        PreconditionFailed: the caller wants other content than there is.
    """
    modified = validators.modified.replace(microsecond=0)
    if (tags := headers.get("If-Match")) is not None:
        if not _matches(tags, validators.etag, weak=False):
            raise PreconditionFailed("the file is not the one that If-Match names")
    elif (date := _date(headers.get("If-Unmodified-Since"))) is not None and modified > date:
        raise PreconditionFailed("the file was made after If-Unmodified-Since")
    if (tags := headers.get("If-None-Match")) is not None:
        return _matches(tags, validators.etag, weak=True)
    date = _date(headers.get("If-Modified-Since"))
    return date is not None and modified <= date


def wanted_range(headers: Mapping[str, str], validators: Validators, size: int) -> range | None:
    """The bytes asked for; None: all of them.

    A range is taken only when ``If-Range`` is absent or names this content; several ranges, other units and what is
    malformed are ignored, as section 14.2 allows.

    Raises:
        RangeNotSatisfiable: the range begins behind the end.
    """
    text = headers.get("Range")
    if text is None or not _holds(headers.get("If-Range"), validators):
        return None
    match = _ONE_RANGE.fullmatch(text)
    if match is None:
        return None
    if match["suffix"] is not None:
        length = int(match["suffix"])
        first, stop = max(0, size - length), size
        if not length:
            first = size
    else:
        first = int(match["first"])
        stop = min(size, int(match["last"]) + 1) if match["last"] else size
        if match["last"] and int(match["last"]) < first:
            return None
    if first >= size:
        raise RangeNotSatisfiable(
            f"the file has {size} bytes", headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
        )
    return range(first, stop)


def _holds(condition: str | None, validators: Validators) -> bool:
    """Whether ``If-Range`` names this content: the same strong tag, or exactly the same date (section 13.1.5)."""
    if condition is None:
        return True
    condition = condition.strip()
    tag = _TAG.fullmatch(condition)
    if tag is not None:
        return not tag["weak"] and tag["value"] == validators.etag
    date = _date(condition)
    return date is not None and date == validators.modified.replace(microsecond=0)


def _matches(tags: str, etag: str, *, weak: bool) -> bool:
    if tags.strip() == "*":
        return True
    return any(tag["value"] == etag and (weak or not tag["weak"]) for tag in _TAG.finditer(tags))


def _date(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo is not None else None
