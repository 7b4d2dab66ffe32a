"""What a source says of the thing behind a URL, whether it says the same later, and what of that is believed.

The bytes of an answer are believed only when its status, ``Content-Range``, length and validator agree. An answer that
contradicts itself raises RangesUnreliable: the source is then asked for the whole, without a range.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final
from unicodedata import category
from urllib.parse import unquote_to_bytes

from mediagen.core.errors import FetchFailed, FetchRefused, RangesUnreliable, SourceChanged
from mediagen.net.content_coding import parse_content_coding
from mediagen.net.content_disposition import decoded, parse_filename
from mediagen.net.http1.response import Response
from mediagen.net.requests import error_for_status
from mediagen.net.trusted_origin import TrustedOrigin

_CONTENT_RANGE: Final = re.compile(
    r"(?:bytes?\b)?[ \t=:]*([0-9]{1,19})[ \t]*-[ \t]*([0-9]{1,19})[ \t]*/[ \t]*([0-9]{1,19}|\*)", re.IGNORECASE
)
"""With another separator or without the unit it says the same, and some servers write it so."""
_WHOLE: Final = frozenset({200, 203})
_NO_RANGE: Final = frozenset({*_WHOLE, 412, 416})
_JOINERS: Final = "\u200c\u200d"
"""Joiners are invisible and yet letters: Persian, Indic scripts and emoji are spelled with them."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What an answer says of the thing behind a URL."""

    url: str
    """As asked for."""
    final_url: str
    """Where the redirects ended."""
    size: int | None
    validator: str | None
    """Strong validator for If-Range: a quoted entity tag or a date (RFC 9110 section 8.8); None: there is none."""
    ranges: bool
    media_type: str | None
    filename: str
    coding: str | None
    """Content coding that came although identity was asked for."""
    length: int | None = None
    """Bytes of the answer as it comes, coded or not."""
    end_proven: bool = True
    """Whether the end of the answer shows by itself; otherwise it is where the connection ends, for whatever reason."""
    etag: str | None = None
    modified: str | None = None
    """``ETag`` and ``Last-Modified`` as they came, strong or not."""
    trusted: TrustedOrigin | None = field(default=None, repr=False)
    """The configured origin whose credentials its requests carry."""

    @property
    def resumable(self) -> bool:
        return self.ranges and self.size is not None and self.validator is not None and self.coding is None


@dataclass(frozen=True, slots=True)
class ContentRange:
    """Which bytes of the resource an answer carries: from ``start`` up to ``end``."""

    start: int
    end: int
    sized: bool
    """The length of the answer says the same. Otherwise it names no length, or a longer one (that of the whole, as some
    programs do), and only its end shows whether it held no more than it said."""


def describe(url: str, response: Response, *, asked: bool) -> tuple[Resource, ContentRange | None]:
    """What the first answer says, and which part of the resource it carries; None: the whole.

    ``asked``: the request had ``Range: bytes=0-``.

    Raises:
        RangesUnreliable: ``asked``, and the answer contradicts itself, or says too little to be believed.
        FetchRefused: no success, or a part that was not asked for.
    """
    headers = response.headers
    coding = parse_content_coding(headers)
    size: int | None = response.content_length
    part: ContentRange | None = None
    ranges = False
    if response.status == 206:
        try:
            part, total = _first_part(response, coding, asked=asked)
        except RangesUnreliable as exc:
            if asked:
                raise
            raise FetchRefused(exc.detail) from None
        ranges = asked and total is not None
        size = part.end if total is None else total
    elif response.status not in _WHOLE:
        raise error_for_status(response)
    validator = _validator(response)
    return Resource(
        url=url,
        final_url=str(response.url),
        size=None if coding else size,
        validator=validator,
        ranges=ranges,
        media_type=headers.get("Content-Type"),
        filename=_filename(response),
        coding=coding,
        length=size,
        end_proven=part is not None or response.self_delimiting,
        etag=headers.get("ETag", "").strip() or None,
        modified=headers.get("Last-Modified", "").strip() or None,
    ), part


def _first_part(response: Response, coding: str | None, *, asked: bool) -> tuple[ContentRange, int | None]:
    start, end, total = _content_range(response)
    if start != 0:
        raise RangesUnreliable("the source answered with a part that was not asked for")
    part = _part(response, start, end, total)
    if total is None and (asked or not part.sized):
        raise RangesUnreliable("the source answered with a part of unknown place")
    if total is not None and end < total and (coding or not asked):
        raise RangesUnreliable("the source answered with a part that was not asked for")
    return part, total


def _content_range(response: Response) -> tuple[int, int, int | None]:
    """First byte, the one after the last, and the total. Raises RangesUnreliable."""
    values = {value.strip() for value in response.headers.getall("Content-Range", ())}
    match = _CONTENT_RANGE.fullmatch(values.pop()) if len(values) == 1 else None
    if match is None or response.headers.get("Content-Type", "").lower().startswith("multipart/byteranges"):
        raise RangesUnreliable("the source answered with a part and did not say which")
    return int(match[1]), int(match[2]) + 1, None if match[3] == "*" else int(match[3])


def _part(response: Response, start: int, end: int, total: int | None) -> ContentRange:
    """Raises RangesUnreliable when the range, its total and the length of the answer contradict each other."""
    length = response.content_length
    if end <= start or (total is not None and end > total):
        raise RangesUnreliable("the source answered with a part that ends beyond its own total")
    if length is not None and length < end - start:
        detail = f"the source answered with a part of {end - start} bytes and announced {length}"
        raise RangesUnreliable(detail, total=total)
    return ContentRange(start, end, length == end - start)


def _validator(response: Response) -> str | None:
    etag = response.headers.get("ETag", "").strip()
    if etag.startswith('"') and etag.endswith('"') and len(etag) > 1:
        return etag
    modified, date = response.headers.get("Last-Modified"), response.headers.get("Date")
    if not modified or not date:
        return None
    try:
        # within the same second it could still change; RFC 9110 section 8.8.2.2
        strong = (parsedate_to_datetime(date) - parsedate_to_datetime(modified)).total_seconds() >= 1
    except (ValueError, TypeError):
        return None
    return modified if strong else None


class WrongRange(FetchFailed):
    """A range that does not hold the byte that was asked for."""


def check_part(response: Response, resource: Resource, start: int) -> ContentRange:
    """The part that the answer to a range carries, the byte at ``start`` in it.

    Raises:
        SourceChanged: the resource is no longer the one that the transfer began with.
        RangesUnreliable: the answer contradicts itself.
        FetchFailed: no success, or another part.
    """
    if response.status in _NO_RANGE:
        raise SourceChanged("the source has changed since the transfer began, or no longer serves ranges")
    if response.status != 206:
        raise error_for_status(response)
    first, end, total = _content_range(response)
    if not first <= start < end:
        raise WrongRange("the source answered with another range than asked for")
    if total not in (None, resource.size) or _has_changed(response, resource):
        raise SourceChanged("the source has changed since the transfer began")
    if parse_content_coding(response.headers):
        raise RangesUnreliable("the source compressed a range")
    return _part(response, first, end, resource.size)


def _has_changed(response: Response, resource: Resource) -> bool:
    """Whether an answer shows another validator of the same kind; some sources ignore If-Range."""
    etag = response.headers.get("ETag", "").strip()
    if resource.validator is not None and resource.validator.startswith('"'):
        return bool(etag) and etag != resource.validator
    if resource.validator is None and etag and resource.etag:
        return etag.removeprefix("W/") != resource.etag.removeprefix("W/")
    modified = response.headers.get("Last-Modified", "").strip()
    return bool(modified) and resource.modified is not None and modified != resource.modified


def _filename(response: Response) -> str:
    """A name for people: of Content-Disposition, else the path's last piece. Never used as a path."""
    given = parse_filename(response.headers.get("Content-Disposition", ""))
    return clean_filename(given or decoded(unquote_to_bytes(response.url.raw_name)))


def clean_filename(name: str) -> str:
    """Without folders, control characters and excess length; may be empty."""
    base = name.replace("\\", "/").rpartition("/")[2]
    return "".join(char for char in base if _is_letter(char)).strip(". \u00a0")[:200].rstrip(". \u00a0")


def _is_letter(char: str) -> bool:
    """What a name may be spelled with: all that shows, spaces of every width, joiners, and characters that are newer
    than the tables of this Python."""
    if char.isprintable() or char in _JOINERS or category(char) == "Zs":
        return True
    return category(char) == "Cn" and ord(char) & 0xFFFE != 0xFFFE and not 0xFDD0 <= ord(char) <= 0xFDEF
