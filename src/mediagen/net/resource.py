"""What a source says of the thing behind a URL, and whether it says the same later."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

from mediagen.core.errors import FetchFailed, FetchRefused, SourceChanged
from mediagen.net.exchange import refuse

_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.IGNORECASE)


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

    @property
    def resumable(self) -> bool:
        return self.ranges and self.size is not None and self.validator is not None and self.coding is None


def describe(url: str, response: aiohttp.ClientResponse) -> Resource:
    """What the first answer says.

    Raises:
        FetchFailed: no success, or a part that was not asked for.
    """
    headers = response.headers
    coding = headers.get("Content-Encoding", "identity").strip().lower()
    size: int | None = response.content_length
    ranges = False
    if response.status == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if match is None or match[1] != "0":
            raise FetchRefused("the source answered with a part that was not asked for")
        ranges = match[3] != "*"
        if ranges:
            size = int(match[3])
        elif size != int(match[2]) + 1:
            raise FetchRefused("the source answered with a part of unknown place")
    elif response.status != 200:
        raise refuse(response)
    return Resource(
        url=url,
        final_url=str(response.url),
        size=None if coding != "identity" else size,
        validator=_validator(response),
        ranges=ranges,
        media_type=headers.get("Content-Type"),
        filename=_filename(response),
        coding=None if coding == "identity" else coding,
    )


def _validator(response: aiohttp.ClientResponse) -> str | None:
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


def check_part(response: aiohttp.ClientResponse, resource: Resource, start: int) -> None:
    """Whether the answer is the part of the resource that begins at ``start``.

    Raises:
        SourceChanged: the resource is no longer the one that the transfer began with.
        FetchFailed: no success, or another part.
    """
    if response.status in (200, 412, 416):
        raise SourceChanged("the source has changed since the transfer began, or no longer serves ranges")
    if response.status != 206:
        raise refuse(response)
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if match is None or int(match[1]) != start:
        raise FetchFailed("the source answered with another range than asked for")
    if match[3] not in ("*", str(resource.size)) or _has_changed(response, resource.validator):
        raise SourceChanged("the source has changed since the transfer began")
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise FetchFailed("the source compressed a range")


def _has_changed(response: aiohttp.ClientResponse, validator: str | None) -> bool:
    """Whether an answer shows another validator of the same kind; some sources ignore If-Range."""
    tagged = validator is not None and validator.startswith('"')
    shown = response.headers.get("ETag" if tagged else "Last-Modified", "").strip()
    return bool(shown) and validator is not None and shown != validator


def _filename(response: aiohttp.ClientResponse) -> str:
    """A name for people: of Content-Disposition, else the path's last piece. Never used as a path."""
    disposition = response.content_disposition
    return clean_filename((disposition.filename if disposition else None) or response.url.name)


def clean_filename(name: str) -> str:
    """Without folders, control characters and excess length; may be empty."""
    base = name.replace("\\", "/").rpartition("/")[2]
    return "".join(char for char in base if char.isprintable()).strip(". ")[:200].rstrip(". ")
