"""The bytes of an object, over a connection that belongs to its reader alone.

The S3 library makes and signs a GetObject and reads what its answer says. In between stands ``ObjectGetter``, at the
place that the library has for it (the event ``before-send``): it sends the request over a connection of ours, so that
none of the library's pool is ever read past it. Behind a proxy of the environment the library sends by itself, and its
own parser gives the bytes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, cast

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import SSLError
from botocore.parsers import ResponseParserError
from yarl import URL

from mediagen.core.errors import FetchFailed, FetchRefused, SourceStalled, SourceTruncated, StorageUnavailable
from mediagen.net.http1.response import Response, send_request
from mediagen.net.http1.response_body import open_body
from mediagen.storage.s3.dialer import StoreDialer, copy_headers, make_response
from mediagen.streams.base import KIB, MIB, try_read_from

_MAX_COMPLAINT: Final = MIB
"""Bytes of an answer that is an error."""


class EmptySource:
    """No bytes of an object."""

    size: int | None = 0

    async def read_into(self, buffer: memoryview, /) -> int:
        return 0


class ObjectGetter:
    """Sends the library's GetObject requests over connections of our own, each for one answer.

    Args:
        answer_seconds: limit for the head of the answer.
    """

    def __init__(self, dialer: StoreDialer, *, answer_seconds: float) -> None:
        self._dialer = dialer
        self._answer_seconds = answer_seconds

    async def send(self, request: AWSPreparedRequest, **_: Any) -> AioAWSResponse | None:
        """The answer, its body unread; None: the library shall send it. Raises what the library would."""
        url = URL(request.url, encoded=True)
        if self._dialer.behind_proxy(url):
            return None
        try:
            sock = await self._dialer.connect(url)
            async with asyncio.timeout(self._answer_seconds):
                response = await send_request(sock, "GET", url, copy_headers(request))
        except ssl.SSLCertVerificationError as exc:
            raise SSLError(endpoint_url=str(url.origin()), error=exc) from None
        except FetchRefused as exc:
            raise ResponseParserError(exc.detail) from None
        return make_response(request, response.status, response.headers, _RawResponse(response, self._answer_seconds))


class _RawResponse:
    """An answer as the library wants it: ``read`` for errors, ``close``; of an object only its connection counts."""

    def __init__(self, response: Response, seconds: float) -> None:
        self.response = response
        self._seconds = seconds

    async def read(self) -> bytes:
        """What an error says, as far as is of use."""
        said, buffer = bytearray(), memoryview(bytearray(16 * KIB))
        body = open_body(self.response, stall=self._seconds)
        try:
            while len(said) < _MAX_COMPLAINT and (count := await body.read_into(buffer)):
                said += buffer[:count]
        except FetchFailed as exc:
            raise ConnectionError(exc.detail) from None
        finally:
            body.close()
        return bytes(said)

    def close(self) -> None:
        self.response.close()


class _Reader(Protocol):
    async def read_into(self, buffer: memoryview, /) -> int: ...

    def close(self) -> None: ...


class _LibraryBody:
    """A body that the library's own client receives and parses."""

    def __init__(self, response: aiohttp.ClientResponse, stall: float) -> None:
        self._response = response
        self._stall = stall

    async def read_into(self, buffer: memoryview, /) -> int:
        try:
            async with asyncio.timeout(self._stall):
                chunk = await self._response.content.read(len(buffer))
        except TimeoutError:
            raise SourceStalled(f"no data for {self._stall:g} s") from None
        except (aiohttp.ClientError, OSError) as exc:
            raise SourceTruncated(f"the connection broke: {exc}") from None
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._response.close()


class S3Source:
    """The body of a GET; no read waits longer than ``seconds``, since nothing below says so."""

    def __init__(self, body: _Reader, size: int | None, seconds: float) -> None:
        self.size = size
        self._body = body
        self._seconds = seconds
        self._done = 0

    async def read_into(self, buffer: memoryview, /) -> int:
        try:
            count = await self._body.read_into(buffer)
        except SourceStalled:
            raise StorageUnavailable(f"the store did not answer within {self._seconds:.0f} s") from None
        except FetchFailed as exc:
            raise StorageUnavailable("the store closed the connection", reason=exc.detail) from None
        self._done += count
        if not count and self.size is not None and self._done < self.size:
            raise StorageUnavailable(f"the store sent {self._done} of {self.size} bytes")
        return count

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        count = try_read_from(self._body, buffer, within=within)
        self._done += count
        return count


@asynccontextmanager
async def open_object_body(answer: dict[str, Any], size: int | None, seconds: float) -> AsyncIterator[S3Source]:
    """What a GetObject answered, of ``size`` bytes; its connection is closed with it, and no more is sent."""
    async with answer["Body"] as stream:
        raw = stream.raw_stream
        if isinstance(raw, _RawResponse):
            body: _Reader = open_body(raw.response, stall=seconds)
        else:
            body = _LibraryBody(cast("aiohttp.ClientResponse", raw), seconds)
        try:
            yield S3Source(body, size, seconds)
        finally:
            body.close()
