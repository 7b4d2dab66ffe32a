"""Calls to a provider: every failure in our own words, and whether paid work may have begun.

Before a connection stands nothing was sent. After that, of a paid call, only an answer tells: without one the outcome
is unknown. Redirects are not followed, the key goes to the configured origin alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from multidict import CIMultiDict
from yarl import URL

from mediagen.core.errors import (
    FetchFailed,
    MediagenError,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    TooLarge,
    UnsupportedMedia,
)
from mediagen.net.connection_errors import describe_cause
from mediagen.net.content_coding import parse_content_coding
from mediagen.net.http1.response import Response, send_request
from mediagen.net.http1.response_body import open_body
from mediagen.net.session import COMMON_HEADERS
from mediagen.net.trusted_origin import TrustedOrigin
from mediagen.providers.calls.lenient_json import parsed
from mediagen.providers.calls.refusals import refusal
from mediagen.providers.calls.request_bodies import Body, json_body
from mediagen.streams.base import GIB, KIB, MIB, Source
from mediagen.streams.sources import DecompressedSource, ExactSource, LimitedSource, PeekableSource, read_chunks

_MAX_DOCUMENT: Final = 8 * MIB
_MAX_COMPLAINT: Final = 64 * KIB
_MAX_ANSWER: Final = 16 * GIB
_LOOK_SECONDS: Final = 30.0
"""For calls that only look."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits in seconds."""

    answer: float = 600.0
    """For the head of the answer to a paid call: synchronous pictures take minutes."""
    stall: float = 60.0


class Reply:
    """A successful answer, its body unread but for its first bytes."""

    def __init__(self, endpoint: Endpoint, response: Response, body: PeekableSource, *, paid: bool) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.media_type = response.media_type
        self._endpoint = endpoint
        self._body = body
        self.paid = paid

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body. Raises OutcomeUnknown or ProviderUnavailable when it breaks off."""
        chunks = read_chunks(self._body)
        while True:
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except FetchFailed as exc:
                raise self._endpoint.lost(exc.detail, paid=self.paid) from None
            except TooLarge as exc:
                raise self._endpoint.unreadable(exc.detail) from None
            yield chunk

    async def document(self, *, max_bytes: int = _MAX_DOCUMENT) -> Any:
        """The body as JSON. Raises ProviderError when it is none."""
        whole = bytearray()
        async for chunk in self.chunks():
            whole += chunk
            if len(whole) > max_bytes:
                raise ProviderError(f"{self._endpoint.name} responded with more than {max_bytes} bytes")
        try:
            return parsed(whole)
        except ValueError as exc:
            raise self._endpoint.no_json(self, str(exc) if whole else "it is empty") from None

    async def check_json(self) -> None:
        """Look whether it can be JSON at all. Raises ProviderError."""
        head = await self._peek(1)
        if not head:
            raise self._endpoint.no_json(self, "it is empty")
        if self.media_type == "text/html" or head == b"<":
            raise self._endpoint.no_json(self, "it is a page")

    async def is_stream_of_events(self) -> bool:
        """Whether the body is server-sent events, by its first bytes where they tell, else by its type."""
        head = (await self._peek(8)).removeprefix(b"\xef\xbb\xbf").lstrip()
        if head.startswith((b"{", b"[")):
            return False
        return self.media_type == "text/event-stream" or head.startswith((b"data:", b"event:", b"id:", b":"))

    async def _peek(self, count: int) -> bytes:
        try:
            return await self._body.peek(count)
        except FetchFailed as exc:
            raise self._endpoint.lost(exc.detail, paid=self.paid) from None
        except TooLarge as exc:
            raise self._endpoint.unreadable(exc.detail) from None


class Endpoint:
    """One provider's API."""

    def __init__(self, name: str, origin: TrustedOrigin, patience: Patience) -> None:
        self.name = name
        self.origin = origin
        self._patience = patience

    async def call(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | None = None,
        *,
        paid: bool = False,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """A call with a JSON object as its answer.

        Raises:
            OutcomeUnknown: only of a ``paid`` call.
            MediagenError: as ``faults.refusal``.
        """
        body = None if document is None else json_body(document)
        async with self.open(method, path, body, paid=paid, query=query, headers=headers) as reply:
            answer = await reply.document()
        if not isinstance(answer, dict):
            raise self.no_object(paid=paid)
        return answer

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        *,
        paid: bool = False,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        of_result: bool = False,
    ) -> AsyncIterator[Reply]:
        """A call whose answer is read while it arrives; raises as ``call``.

        ``of_result``: as ``faults.refusal``.
        """
        response = await self._request(method, self.url(path, query), body, headers or {}, paid=paid)
        sized: _Sized | None = None
        try:
            sized = _Sized(response, self._patience.stall)
            source: Source = ExactSource(sized)
            if (coding := parse_content_coding(response.headers)) is not None:
                try:
                    source = DecompressedSource(source, coding)
                except UnsupportedMedia as exc:
                    if response.status < 300:
                        raise self.unreadable(exc.detail) from None
                    raise refusal(self.name, response.status, response.headers, b"", paid=paid) from None
            if response.status >= 300:
                raise await self._refused(response, source, paid=paid, of_result=of_result)
            yield Reply(self, response, PeekableSource(LimitedSource(source, _MAX_ANSWER)), paid=paid)
        finally:
            if sized is not None:
                sized.close()
            response.close()
            if body is not None:
                await body.aclose()

    def url(self, path: str, query: Mapping[str, str] | None = None) -> URL:
        """Below the base URL; or a URL that the provider gave, if it has the same origin. Raises ProviderError."""
        if "://" not in path:
            url = URL(f"{str(self.origin.base_url).rstrip('/')}/{path.lstrip('/')}")
        else:
            try:
                url = URL(path, encoded=True)
                covered = self.origin.covers(url)
            except ValueError as exc:
                raise ProviderError(
                    f"{self.name} returned an address that is not a URL: {exc}", provider=self.name
                ) from None
            if not covered:
                raise ProviderError(f"{self.name} returned an address outside its own API: {url.host}")
        return url.update_query(query) if query else url

    def lost(self, reason: str, *, paid: bool) -> MediagenError:
        """The answer did not come, or not whole."""
        if paid:
            text = f"no complete response from {self.name}; it may have done the work, so the call is not repeated"
            return OutcomeUnknown(text, provider=self.name, reason=reason)
        return ProviderUnavailable(f"no complete response from {self.name}", provider=self.name, reason=reason)

    def no_json(self, reply: Reply, reason: str) -> ProviderError:
        """The answer is something else, or not whole: of a call that only looks, by somebody in between, perhaps."""
        kind = reply.media_type
        hint = "" if kind.endswith("json") else f" (it is called {kind}; is base_url right?)"
        return self.unreadable(f"no JSON, {reason}{hint}", ProviderError if reply.paid else ProviderUnavailable)

    def no_object(self, *, paid: bool) -> ProviderError:
        """The answer is JSON of another kind: of a call that only looks, the next answer may be right."""
        error = ProviderError if paid else ProviderUnavailable
        return error(f"{self.name} did not respond with a JSON object", provider=self.name)

    def unreadable(self, reason: str, error: type[ProviderError] = ProviderError) -> ProviderError:
        """The answer is not what it should be."""
        return error(f"{self.name} sent an answer that cannot be read: {reason}", provider=self.name)

    async def _request(
        self, method: str, url: URL, body: Body | None, headers: Mapping[str, str], *, paid: bool
    ) -> Response:
        limit = self._patience.answer if paid else min(_LOOK_SECONDS, self._patience.answer)
        fields = CIMultiDict(COMMON_HEADERS)
        for more in ({"Accept": "application/json"}, self.origin.headers, headers, body.headers if body else {}):
            fields.update(more)
        try:
            sock = await self.origin.dialer.connect(url)
        except OSError as exc:
            detail = f"no connection to {self.name}: {describe_cause(exc)}"
            raise ProviderUnavailable(detail, provider=self.name, reason=repr(exc)) from None
        try:
            async with asyncio.timeout(limit):
                return await send_request(sock, method, url, fields, body.chunks() if body else None)
        except TimeoutError:
            raise self.lost(f"nothing within {limit:g} s", paid=paid) from None
        except FetchFailed as exc:
            raise (body and body.failure) or self.lost(exc.detail, paid=paid) from None
        except OSError as exc:
            raise self.lost(repr(exc), paid=paid) from None

    async def _refused(self, response: Response, source: Source, *, paid: bool, of_result: bool) -> MediagenError:
        body = bytearray()
        try:
            async for chunk in read_chunks(LimitedSource(source, _MAX_COMPLAINT)):
                body += chunk
        except (FetchFailed, TooLarge):
            body.clear()  # the status says enough
        return refusal(self.name, response.status, response.headers, bytes(body), paid=paid, of_result=of_result)


def quoted(text: str) -> str:
    """An id as one piece of a path. Raises ProviderError for dots alone, which are a way and no id (RFC 3986)."""
    if text in (".", ".."):
        raise ProviderError(f"the provider returned an unusable id: {text}")
    return quote(text, safe="")


class _Sized:
    """The body of an answer as a source."""

    def __init__(self, response: Response, stall: float) -> None:
        self.size = response.content_length if parse_content_coding(response.headers) is None else None
        self._body = open_body(response, stall=stall)

    async def read_into(self, buffer: memoryview, /) -> int:
        return await self._body.read_into(buffer)

    def close(self) -> None:
        self._body.close()
