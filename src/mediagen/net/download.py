"""Downloads that go on where they broke.

``Fetcher.open`` asks once for everything (``Range: bytes=0-``) and reads the first bytes. What the answer shows decides
what the download can do: with a length, ranges and a strong validator it can be resumed and read in parallel; without
them its one answer is all there is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from typing import Final

import aiohttp
import structlog
from yarl import URL

from mediagen.core.errors import FetchFailed, SourceChanged, SourceTruncated
from mediagen.net.body import BodyReader, open_body
from mediagen.net.exchange import GONE, get
from mediagen.net.policy import check_text
from mediagen.net.resource import Resource, check_part, describe
from mediagen.net.retry import RetryPolicy
from mediagen.net.settings import FetchSettings
from mediagen.net.trust import TrustedOrigin
from mediagen.streams.base import MIB, Source
from mediagen.streams.sniff import SNIFF_BYTES
from mediagen.streams.sources import Decompressed, Exact, Peeked
from mediagen.streams.turnstile import Turnstile

log = structlog.get_logger()

_FORGIVEN_AFTER: Final = MIB
"""Bytes of progress after which earlier failures no longer count."""


class Fetcher:
    """Opens downloads over one guarded session; counts transfers a host, so that all share its connections."""

    def __init__(self, session: aiohttp.ClientSession, settings: FetchSettings) -> None:
        self.settings = settings
        self._session = session
        self._transfers: Counter[str] = Counter()
        self._retry = RetryPolicy(attempts=settings.attempts)
        self._turnstile = Turnstile()
        self._trusted: TrustedOrigin | None = None

    def trusting(self, origin: TrustedOrigin | None) -> Fetcher:
        """This fetcher, for URLs that may lie at an origin of the configuration, which gets its credentials."""
        if origin is None:
            return self
        other = copy(self)
        other._trusted = origin  # noqa: SLF001 - a copy of ourselves
        return other

    @property
    def retry(self) -> RetryPolicy:
        return self._retry

    @asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[Download]:
        """The download of ``url``, its first bytes read. Failures before that are tried again as the settings say.

        Raises:
            UrlNotAllowed, InvalidRequest, FetchFailed and its children.
        """
        host = check_text(url).host or ""
        self._transfers[host] += 1
        try:
            download = await self._begin(url)
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

    async def _begin(self, url: str) -> Download:
        failures = 0
        while True:
            try:
                download = await self._first(url)
                if not download.resource.resumable:
                    await self._read_head(download)
                break
            except FetchFailed as exc:
                failures += 1
                if not exc.retryable or failures >= self._retry.attempts:
                    raise
                await self.pause(failures, exc)
        if download.resource.resumable:  # has tries of its own
            await self._read_head(download)
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

    async def _get(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        return await get(self._session, url, self.settings, headers, self._trusted)

    async def _first(self, url: str) -> Download:
        await self._turnstile.pass_through()
        response = await self._get(url, {"Range": "bytes=0-"})
        if response.status == 416:  # how some servers put it that the thing is empty, or that they know no ranges
            response.close()
            response = await self._get(url, {})
        try:
            resource = describe(url, response)
            body = open_body(response, stall=self.settings.stall_seconds)
        except BaseException:
            response.close()
            raise
        return Download(self, resource, body)

    async def open_range(self, resource: Resource, start: int, end: int) -> tuple[BodyReader, Resource]:
        """The body of the bytes from ``start`` up to ``end``, and the resource with the link that gave it.

        Raises:
            SourceChanged: the resource is no longer the one that the transfer began with.
        """
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if resource.validator is not None:
            headers["If-Range"] = resource.validator
        await self._turnstile.pass_through()
        response = await self._get(resource.final_url, headers)
        if response.status in GONE and resource.final_url != resource.url:
            response.close()  # a link that the first URL redirected to may have expired: ask for a fresh one
            response = await self._get(resource.url, headers)
            resource = replace(resource, final_url=str(response.url))
        try:
            check_part(response, resource, start)
            return open_body(response, stall=self.settings.stall_seconds), resource
        except BaseException:
            response.close()
            raise


class HttpRangeReader:
    """A ``streams.base.RangeReader`` over HTTP: one connection at a time, re-opened where it broke."""

    def __init__(
        self, fetcher: Fetcher, resource: Resource, *, body: BodyReader | None = None, head: bytes = b""
    ) -> None:
        if resource.size is None:
            raise ValueError("a range reader needs a length")
        self._fetcher = fetcher
        self._resource = resource
        self._size = resource.size
        self._body = body
        self._head = head
        self._position = 0
        self._end = self._size
        self._failures = 0
        self._progress = 0

    def expect(self, start: int, end: int, /) -> None:
        self._end = min(end, self._size)

    async def seek(self, offset: int, /) -> None:
        if offset != self._position:
            self._drop()
            self._head = b""
            self._position = offset

    async def connect(self) -> None:
        """Open the connection now, without a second try: whether the source lets us have one more is told at once."""
        self._body, self._resource = await self._fetcher.open_range(self._resource, self._position, self._end)

    async def read_into(self, buffer: memoryview, /) -> int:
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count] = self._head[:count]
            self._head = self._head[count:]
            self._position += count
            return count
        if self._position >= self._size:
            return 0
        while True:
            try:
                return await self._read(buffer)
            except SourceChanged:
                self._drop()
                raise
            except FetchFailed as exc:
                self._drop()
                self._failures += 1
                if not exc.retryable or self._failures >= self._fetcher.retry.attempts:
                    raise
                await self._fetcher.pause(self._failures, exc)

    async def _read(self, buffer: memoryview) -> int:
        if self._position >= self._end:
            self._drop()  # a thread has read what was asked for
        if self._body is None:
            end = self._end if self._position < self._end else self._size
            self._body, self._resource = await self._fetcher.open_range(self._resource, self._position, end)
        count = await self._body.read_into(buffer[: self._size - self._position])
        if count == 0:  # the end of a range that the server cut short, or of one that we asked for
            self._drop()
            raise SourceTruncated(f"the answer ended at byte {self._position} of {self._size}")
        self._came(count)
        if self._position >= self._end:
            self._drop()
        return count

    def take(self, buffer: memoryview, /, *, within: float) -> int:
        if self._head or self._body is None or self._position >= self._end:
            return 0
        count = self._body.take(buffer[: self._size - self._position], within=within)
        self._came(count)
        return count

    def _came(self, count: int) -> None:
        self._position += count
        self._progress += count
        if self._failures and self._progress >= _FORGIVEN_AFTER:
            self._failures = 0

    def _drop(self) -> None:
        self._progress = 0
        if self._body is not None:
            self._body.close()
            self._body = None

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        self._drop()

    def hand_over(self) -> BodyReader | None:
        """The open answer; from now on somebody else's."""
        body, self._body = self._body, None
        return body


class Download:
    """An answer that has begun. Either ``sequential`` or ``readers`` takes its bytes, once."""

    def __init__(self, fetcher: Fetcher, resource: Resource, body: BodyReader) -> None:
        self.resource = resource
        self._fetcher = fetcher
        self._body = body
        self._reader: HttpRangeReader | None = None
        self._peeked: Peeked | None = None
        self._handed_out: list[HttpRangeReader] = []
        self.head = b""

    @property
    def size(self) -> int:
        """Length in bytes; only of a resumable resource."""
        if self.resource.size is None:
            raise ValueError("the length is not known")
        return self.resource.size

    async def read_head(self) -> None:
        """Read what sniffing needs."""
        resource = self.resource
        if resource.resumable:
            self._reader = HttpRangeReader(self._fetcher, resource, body=self._body)
            source: Source = Exact(_Sequential(self._reader, self.size))
        elif resource.coding is not None:
            source = Decompressed(Exact(_OneShot(self._body, resource.size)), resource.coding)
        else:
            source = Exact(_OneShot(self._body, resource.size))
        self._peeked = Peeked(source)
        self.head = await self._peeked.peek(SNIFF_BYTES)

    def sequential(self) -> Source:
        """All bytes from the first; resumed by itself when the resource allows it."""
        assert self._peeked is not None
        return self._peeked

    async def readers(self) -> list[HttpRangeReader] | None:
        """Two connections to read ranges over, or None when the source does not let us have a second one.

        The first is the answer that has begun, at byte 0; the second was opened to find out. The rest may follow.
        """
        second = HttpRangeReader(self._fetcher, self.resource)
        await second.seek(self.size // 2)
        try:
            await second.connect()
        except FetchFailed as exc:
            log.info("ranges_refused", reason=exc.detail)
            return None
        assert self._reader is not None
        first = HttpRangeReader(self._fetcher, self.resource, body=self._reader.hand_over(), head=self.head)
        self._handed_out = [first, second]
        return [first, second]

    def open_reader(self) -> HttpRangeReader:
        return HttpRangeReader(self._fetcher, self.resource)

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

    def take(self, buffer: memoryview, /, *, within: float) -> int:
        return self._body.take(buffer, within=within)


class _Sequential:
    """A range reader read from end to end."""

    def __init__(self, reader: HttpRangeReader, size: int) -> None:
        self.size = size
        self._reader = reader

    async def read_into(self, buffer: memoryview, /) -> int:
        return await self._reader.read_into(buffer)

    def take(self, buffer: memoryview, /, *, within: float) -> int:
        return self._reader.take(buffer, within=within)
