"""Bodies to the store, written from where they lie to a connection of our own, in byte threads over http and https.

The library's own client hands each piece to a transport of the event loop. What the socket does not take at once is
copied there, twice, and over TLS all of it is encrypted in the event loop.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

from aiobotocore.awsrequest import AioAWSResponse
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import EndpointConnectionError, SSLError
from botocore.parsers import ResponseParserError
from yarl import URL

from mediagen.core.errors import FetchFailed, FetchRefused
from mediagen.net.http1.connection import Answer, ConnectionPool, StaleConnection
from mediagen.storage.s3.dialer import StoreDialer, copy_headers, make_response
from mediagen.storage.s3.http import Expectations
from mediagen.storage.s3.payload import BodyPayload

IDLE_SECONDS: Final = 10.0
"""Below what stores keep idle connections for."""


class StoreUnreachable(EndpointConnectionError):  # type: ignore[misc] # its library ships no types
    """There was no connection over which the store could have been asked."""

    fmt = "no connection to {endpoint_url}: {error!r}"


class ObjectUploader:
    """Sends the library's PutObject and UploadPart requests.

    Args:
        answer_seconds: longest silence within an answer; the caller limits the whole of a request.
    """

    def __init__(self, dialer: StoreDialer, expectations: Expectations, *, answer_seconds: float) -> None:
        self._dialer = dialer
        self._pool = ConnectionPool(dialer.connect, idle_seconds=IDLE_SECONDS)
        self._expectations = expectations
        self._answer_seconds = answer_seconds

    async def send(self, request: AWSPreparedRequest, **_: Any) -> AioAWSResponse | None:
        """The answer; None: the library shall send it. Raises what the library would, and what stops the body."""
        body = request.body
        url = URL(request.url, encoded=True)
        if not isinstance(body, BodyPayload) or self._dialer.behind_proxy(url):
            return None
        while True:
            try:
                answer = await self._exchange(url, request, body)
            except StaleConnection:
                continue
            except FetchFailed as exc:
                if body.failure is not None:
                    raise
                if isinstance(exc, FetchRefused):
                    raise ResponseParserError(exc.detail) from None
                raise ConnectionError(exc.detail) from None
            return make_response(request, answer.status, answer.headers, _Said(answer.body))

    async def _exchange(self, url: URL, request: AWSPreparedRequest, body: BodyPayload) -> Answer:
        headers = copy_headers(request)
        headers["Content-Length"] = str(len(body))
        try:
            connection = await self._pool.acquire(url)
        except ssl.SSLCertVerificationError as exc:
            raise SSLError(endpoint_url=str(url.origin()), error=exc) from None
        except OSError as exc:
            raise StoreUnreachable(endpoint_url=str(url.origin()), error=exc) from None
        try:
            return await connection.upload(
                request.method,
                url,
                headers,
                body,
                stall=self._answer_seconds,
                wait_for_continue=self._expectations.wait_for if "Expect" in headers else None,
            )
        finally:
            self._pool.release(url, connection)

    def close(self) -> None:
        """Close connections that nobody uses."""
        self._pool.close()


class _Said:
    """The body of an answer as the library wants it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body

    def close(self) -> None:
        """Nothing to do."""
