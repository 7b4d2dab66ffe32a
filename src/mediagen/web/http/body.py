"""Reading request bodies ourselves: bounded in size and in time, and never unpacked."""

from __future__ import annotations

import asyncio
import codecs
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from mediagen.core.errors import InvalidRequest, TooLarge, UnsupportedMedia
from mediagen.streams.base import Source
from mediagen.streams.json import parser as jsontext
from mediagen.streams.sources import read_chunks
from mediagen.web.http.problems import BodyStalled, EncodedBody
from mediagen.web.settings import ServerSettings

_JSON_TYPES: Final = frozenset(
    {"application/json", "application/octet-stream", "text/plain", "application/x-www-form-urlencoded", ""}
)
"""The last but one is what curl says of any ``-d``; whether it is JSON is told by parsing it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """``max_json_bytes`` and ``max_json_values`` of a whole JSON body, ``idle_seconds`` without a byte, and the slowest
    rate over as long."""

    max_json_bytes: int
    idle_seconds: float
    minimum_bytes_per_second: int
    max_json_values: int = jsontext.MAX_VALUES

    @classmethod
    def of(cls, settings: ServerSettings) -> BodyLimits:
        return cls(
            settings.max_json_bytes,
            settings.body_idle_seconds,
            settings.body_minimum_bytes_per_second,
            settings.max_json_values,
        )


class Pace:
    """How quickly the body of one request comes.

    Only the time counts in which we wait for the client: a store that makes us slow is no fault of his. The rate is
    taken whenever that time adds up to ``idle_seconds``.
    """

    def __init__(self, limits: BodyLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_seconds = limits.idle_seconds
        self._least = limits.minimum_bytes_per_second
        self._clock = clock
        self._waited = 0.0
        self._came = 0

    async def wait(self, read: Awaitable[T]) -> T:
        """What one read of the body gives.

        Raises:
            BodyStalled: nothing came for ``idle_seconds``.
            InvalidRequest: the client went away, or its framing is broken.
        """
        began = self._clock()
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await read
        except TimeoutError:
            raise BodyStalled(f"no byte of the body arrived for {self._idle_seconds:g} s") from None
        except (RequestPayloadError, ConnectionError) as exc:
            raise InvalidRequest("the body is shorter than announced") from exc
        finally:
            self._waited += self._clock() - began

    def add(self, size: int) -> None:
        """So many bytes came without any waiting; from any thread that has the body to itself."""
        self._came += size

    def count(self, size: int) -> None:
        """So many bytes came. Raises BodyStalled when they were too few for the time."""
        self.add(size)
        if self._waited < self._idle_seconds:
            return
        if self._came < self._least * self._waited:
            raise BodyStalled(f"the body arrives more slowly than {self._least} bytes a second")
        self._waited, self._came = 0.0, 0


def refuse_encoded(request: web.Request) -> None:
    """Raise EncodedBody for a compressed body."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise EncodedBody(f"send the body without Content-Encoding (this one has {encoding[:40]!r})")


async def chunks(request: web.Request, limits: BodyLimits) -> AsyncIterator[bytes]:
    """The body as it comes in.

    Raises:
        BodyStalled: nothing came for too long, or too little.
        InvalidRequest: the client went away, or its framing is broken.
    """
    content, pace = request.content, Pace(limits)
    await invite(request)
    while True:
        chunk, _ = await pace.wait(content.readchunk())  # as it came: readany would join what waits
        if chunk:
            pace.count(len(chunk))
            yield chunk
        elif content.at_eof():
            return


async def json_chunks(source: Source) -> AsyncIterator[bytes]:
    """A JSON document as it comes in, without a byte order mark (RFC 8259 section 8.1)."""
    start: bytes | None = b""
    async for chunk in read_chunks(source):
        if start is None:
            yield chunk
            continue
        start += chunk
        if len(start) >= len(codecs.BOM_UTF8):
            yield start.removeprefix(codecs.BOM_UTF8)
            start = None
    if start:
        yield start


async def not_yet(request: web.Request) -> None:
    """Answers ``Expect: 100-continue`` in aiohttp's place, by nothing: it would invite a body that is then refused."""


async def invite(request: web.Request) -> None:
    """Say 100 Continue to a client that waits for it (RFC 9110 section 10.1.1): now its body is wanted."""
    if request.version == HttpVersion11 and request.headers.get(hdrs.EXPECT, "").strip().lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


async def read_json(request: web.Request, limits: BodyLimits) -> object:
    """The JSON document of the body; None when the body is empty.

    Raises:
        TooLarge, BodyStalled, UnsupportedMedia, InvalidRequest
    """
    if request.content_length is not None and request.content_length > limits.max_json_bytes:
        raise TooLarge(f"the body has {request.content_length} bytes, but at most {limits.max_json_bytes} are accepted")
    data = bytearray()
    async for chunk in chunks(request, limits):
        data += chunk
        if len(data) > limits.max_json_bytes:
            raise TooLarge(f"the body has more than {limits.max_json_bytes} bytes")
    if not data:
        return None
    require_json(request)
    return jsontext.parse(data, max_values=limits.max_json_values)


def require_json(request: web.Request) -> None:
    """Raise UnsupportedMedia unless the body can be JSON."""
    declared = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if declared not in _JSON_TYPES and not declared.endswith("+json"):
        raise UnsupportedMedia(f"send JSON (application/json), not {declared[:60]!r}")
