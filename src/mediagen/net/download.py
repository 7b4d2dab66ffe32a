"""Downloads that go on where they broke.

``Fetcher.open`` asks once for everything (``Range: bytes=0-``) and reads the first bytes. What the answer shows decides
what the download can do: with a length, ranges and a strong validator it can be resumed and read in parallel; without
them its one answer is all there is. A source that refuses the range, or answers it with something that contradicts
itself, is asked once for the whole.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import structlog
from yarl import URL

from mediagen.core.errors import FetchFailed, FetchRefused, RangesUnreliable
from mediagen.net.content_coding import is_file_format
from mediagen.net.http1.response import Response
from mediagen.net.http1.response_body import BodyReader, open_body
from mediagen.net.policy import check_text
from mediagen.net.range_reader import HttpRangeReader
from mediagen.net.requests import GONE, get
from mediagen.net.resource import ContentRange, Resource, check_part, describe
from mediagen.net.retry import RetryPolicy
from mediagen.net.session import Session
from mediagen.net.settings import FetchSettings
from mediagen.net.trusted_origin import TrustedOrigin
from mediagen.streams.base import Source
from mediagen.streams.formats.sniff import SNIFF_BYTES
from mediagen.streams.sources import DecompressedSource, ExactSource, PeekableSource, holds_gzip
from mediagen.streams.turnstile import Turnstile

log = structlog.get_logger()

_NOT_OF_RANGES: Final = frozenset({401, 402, 407, 408, 425, 429, 451})
"""Statuses that have other reasons than a range."""


class Fetcher:
    """Opens downloads over one guarded session; counts transfers a host, so that all share its connections."""

    def __init__(self, session: Session, settings: FetchSettings) -> None:
        self.settings = settings
        self._session = session
        self._transfers: Counter[str] = Counter()
        self._retry = RetryPolicy(attempts=settings.attempts)
        self._turnstile = Turnstile()

    @property
    def retry(self) -> RetryPolicy:
        return self._retry

    @asynccontextmanager
    async def open(
        self, url: str, *, ranges: bool = True, trusted: TrustedOrigin | None = None
    ) -> AsyncIterator[Download]:
        """The download of ``url``, its first bytes read. Failures before that are tried again as the settings say.

        ``ranges`` False: ask for the whole alone, of a source whose answers to ranges are not to be believed.
        ``trusted``: an origin of the configuration where the URL may lie; requests to it carry its credentials.

        Raises:
            UrlNotAllowed, InvalidRequest, FetchFailed and its children.
        """
        host = check_text(url).host or ""
        self._transfers[host] += 1
        try:
            download = await self._begin(url, trusted, ranges=ranges)
            try:
                yield download
            finally:
                download.close()
        finally:
            self._transfers[host] -= 1
            if not self._transfers[host]:
                del self._transfers[host]

    def workers(self, resource: Resource, wanted: int) -> int:
        """How many connections a transfer may use now: its share of what one host is asked to bear."""
        sharing = max(1, self._transfers[URL(resource.url).host or ""])
        return max(1, min(wanted, self.settings.connections_per_host // sharing))

    async def _begin(self, url: str, trusted: TrustedOrigin | None, *, ranges: bool) -> Download:
        failures = 0
        while True:
            try:
                download = await self._first(url, trusted, ranges=ranges)
                if not download.resource.resumable:
                    await self._read_head(download)
                break
            except FetchFailed as exc:
                failures += 1
                if isinstance(exc, RangesUnreliable) and ranges:
                    ranges = False
                    continue
                given_up = not exc.retryable or failures >= self._retry.attempts
                if given_up and ranges and _may_be_of_ranges(exc):
                    ranges = False
                    log.info("fetched_without_range", detail=exc.detail, **exc.context)
                elif given_up:
                    raise
                else:
                    await self.pause(failures, exc)
        if download.resource.resumable:  # has tries of its own
            try:
                await self._read_head(download)
            except RangesUnreliable:
                return await self._begin(url, trusted, ranges=False)
        return download

    async def _read_head(self, download: Download) -> None:
        try:
            await download.read_head()
        except BaseException:
            download.close()
            raise

    async def pause(self, failures: int, exc: FetchFailed) -> None:
        delay = self._retry.delay(failures, exc.retry_after)
        log.info("fetch_retried", failures=failures, delay=round(delay, 2), detail=exc.detail, **exc.context)
        await asyncio.sleep(delay)

    async def _get(self, url: str, trusted: TrustedOrigin | None, headers: Mapping[str, str]) -> Response:
        return await get(self._session, url, self.settings, headers, trusted)

    async def _first(self, url: str, trusted: TrustedOrigin | None, *, ranges: bool) -> Download:
        """The download of one answer; of the answer to another request where the first is not to be believed."""
        await self._turnstile.pass_through()
        response = await self._get(url, trusted, {"Range": "bytes=0-"} if ranges else {})
        if ranges and response.status == 416:  # how some servers put it that the thing is empty, or they know no ranges
            response.close()
            return await self._first(url, trusted, ranges=False)
        try:
            download = self._opened(url, trusted, response, asked=ranges)
        except RangesUnreliable as exc:
            log.info("fetched_without_range", detail=exc.detail, **exc.context)
            whole = await self._first(url, trusted, ranges=False)
            total, size = exc.context.get("total"), whole.resource.size
            if None not in (total, size) and total != size:
                whole.close()
                raise FetchRefused(f"the source says both {total} and {size} of its length") from None
            return whole
        if download.gives_less and download.resource.validator is None:
            return await self._whole_instead(url, download)
        return download

    def _opened(self, url: str, trusted: TrustedOrigin | None, response: Response, *, asked: bool) -> Download:
        try:
            resource, part = describe(url, response, asked=asked)
            body = open_body(response, stall=self.settings.stall_seconds)
        except BaseException:
            response.close()
            raise
        return Download(self, replace(resource, trusted=trusted), body, part)

    async def _whole_instead(self, url: str, part: Download) -> Download:
        """The whole in one answer, in place of a first part that no validator ties to the others; if there is one."""
        try:
            trusted = part.resource.trusted
            whole = self._opened(url, trusted, await self._get(url, trusted, {}), asked=False)
        except FetchFailed as exc:
            log.info("fetched_in_parts", detail=exc.detail, **exc.context)
            return part
        except BaseException:
            part.close()
            raise
        if whole.resource.coding is None:
            if whole.resource.size not in (None, part.resource.size):
                whole.close()
                return part
            whole.resource = replace(whole.resource, size=part.resource.size)  # where only its end would tell
        part.close()
        return whole

    async def open_range(
        self, resource: Resource, start: int, end: int | None
    ) -> tuple[BodyReader, ContentRange, Resource]:
        """The answer to the bytes from ``start`` up to ``end`` (None: to the last), and what part it carries; and the
        resource with the link that gave it.

        Raises:
            SourceChanged: the resource is no longer the one that the transfer began with.
            RangesUnreliable: the answer contradicts itself.
        """
        headers = {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        if resource.validator is not None:
            headers["If-Range"] = resource.validator
        await self._turnstile.pass_through()
        response = await self._get(resource.final_url, resource.trusted, headers)
        if response.status in GONE and resource.final_url != resource.url:
            response.close()  # a link that the first URL redirected to may have expired: ask for a fresh one
            response = await self._get(resource.url, resource.trusted, headers)
            resource = replace(resource, final_url=str(response.url))
        try:
            part = check_part(response, resource, start)
            return open_body(response, stall=self.settings.stall_seconds), part, resource
        except BaseException:
            response.close()
            raise


def _may_be_of_ranges(exc: FetchFailed) -> bool:
    """Whether the source answered with a status that it may not give to a request for the whole.

    One that says when to come back is busy.
    """
    status = exc.context.get("status")
    return isinstance(status, int) and status not in _NOT_OF_RANGES and exc.retry_after is None


def refuses_ranges(exc: FetchFailed) -> bool:
    """Whether a source that has given a part seems to refuse the others because they are parts."""
    return not exc.retryable and _may_be_of_ranges(exc) and exc.context["status"] not in GONE


class Download:
    """An answer that has begun. Either ``sequential`` or ``readers`` takes its bytes, once."""

    def __init__(self, fetcher: Fetcher, resource: Resource, body: BodyReader, part: ContentRange | None) -> None:
        self.resource = resource
        self._fetcher = fetcher
        self._body = body
        self._part = part
        self._reader: HttpRangeReader | None = None
        self._peeked: PeekableSource | None = None
        self._handed_out: list[HttpRangeReader] = []
        self.head = b""

    @property
    def gives_less(self) -> bool:
        """Whether the answer carries the first part only of what was asked for."""
        return self._part is not None and self.resource.size is not None and self._part.end < self.resource.size

    @property
    def size(self) -> int:
        """Length in bytes; only of a resumable resource."""
        if self.resource.size is None:
            raise ValueError("the length is not known")
        return self.resource.size

    async def read_head(self) -> None:
        """Read what sniffing needs."""
        resource = self.resource
        source: Source
        if resource.coding is not None:
            source = await self._decoded(resource.coding)
        elif self._part is not None and resource.size is not None:
            self._reader = HttpRangeReader(self._fetcher, resource, strict=False, opened=(self._body, self._part))
            source = ExactSource(_Sequential(self._reader, resource.size))
        else:
            source = ExactSource(_OneShot(self._body, resource.size))
        self._peeked = PeekableSource(source)
        self.head = await self._peeked.peek(SNIFF_BYTES)

    async def _decoded(self, coding: str) -> Source:
        """The content without its coding; with it, where that is the file's own."""
        raw = PeekableSource(ExactSource(_OneShot(self._body, self.resource.length)))
        own = is_file_format(coding, self.resource.media_type, self.resource.filename)
        if own and not holds_gzip(await raw.peek(SNIFF_BYTES)):
            self.resource = replace(self.resource, coding=None, size=self.resource.length, ranges=False)
            return raw
        return DecompressedSource(raw, coding, may_be_empty=self.resource.end_proven)

    def sequential(self) -> Source:
        """All bytes from the first; resumed by itself when the resource allows it."""
        assert self._peeked is not None
        return self._peeked

    async def readers(self) -> list[HttpRangeReader] | None:
        """Two connections to read ranges over, or None when the source does not let us have a second one.

        The first is the answer that has begun, at byte 0; the second was opened to find out. The rest may follow.
        """
        assert self._reader is not None
        if not self._reader.sized:
            return None
        second = HttpRangeReader(self._fetcher, self.resource, strict=True)
        await second.seek(self.size // 2)
        try:
            await second.connect()
        except FetchFailed as exc:
            second.close()
            log.info("ranges_refused", reason=exc.detail)
            return None
        opened = self._reader.hand_over()
        first = HttpRangeReader(self._fetcher, self.resource, strict=True, opened=opened, head=self.head)
        self._handed_out = [first, second]
        return [first, second]

    def open_reader(self) -> HttpRangeReader:
        return HttpRangeReader(self._fetcher, self.resource, strict=True)

    def close(self) -> None:
        """Close what is open, readers that nobody took over among it."""
        for reader in (self._reader, *self._handed_out):
            if reader is not None:
                reader.close()
        self._body.close()


class _OneShot:
    """The one answer as a source."""

    def __init__(self, body: BodyReader, size: int | None) -> None:
        self.size = size
        self._body = body

    async def read_into(self, buffer: memoryview, /) -> int:
        return await self._body.read_into(buffer)

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        return self._body.try_read(buffer, within=within)


class _Sequential:
    """A range reader read from end to end."""

    def __init__(self, reader: HttpRangeReader, size: int) -> None:
        self.size = size
        self._reader = reader

    async def read_into(self, buffer: memoryview, /) -> int:
        return await self._reader.read_into(buffer)

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        return self._reader.try_read(buffer, within=within)
