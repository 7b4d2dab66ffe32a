"""What can go wrong with one HTTP exchange.

A fault is a value: it says what to do with the request before it goes upstream (``intercept``, ``request``), with the
answer's head (``head``), its body (``answer``) and the connection afterwards (``finish``). The methods of ``Fault``
itself do nothing, so each fault overrides only what it breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from tests.infra.servers.http_messages import Body, Head, read_head, send

ByteStream = AsyncIterator[bytes]


class HangUp(Exception):
    """Ends the client's connection now, with RST when ``reset``, else with FIN."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("reset" if reset else "closed")
        self.reset = reset


@dataclass(slots=True)
class Client:
    """The client's side of one exchange."""

    request: Head
    body: Body
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    upstream: tuple[str, int] = ("", 0)

    async def read_all(self) -> int:
        """Take the whole request body, saying 100 Continue when asked; returns its bytes."""
        return len(await self.read())

    async def read(self) -> bytes:
        """The request body, after 100 Continue when that is asked for."""
        if self.request.has_token("Expect", "100-continue"):
            await send(self.writer, b"HTTP/1.1 100 Continue\r\n\r\n")
        return b"".join([chunk async for chunk in self.body.payload()])


class Fault:
    """No fault."""

    async def intercept(self, client: Client) -> Head | None:
        """The answer's head when upstream must not hear of the request (body already sent), else None."""
        return None

    def request(self, body: ByteStream) -> ByteStream:
        """The request's payload on its way upstream."""
        return body

    def head(self, head: Head) -> None:
        """Alter the answer's head, or raise ``HangUp``."""

    def answer(self, body: ByteStream) -> ByteStream:
        """The answer's payload on its way to the client."""
        return body

    async def finish(self, client: Client) -> None:
        """The answer has been sent whole."""


async def _paced(body: ByteStream, rate: float) -> ByteStream:
    step = max(1, int(rate / 20))
    async for chunk in body:
        for start in range(0, len(chunk), step):
            piece = chunk[start : start + step]
            await asyncio.sleep(len(piece) / rate)
            yield piece


async def _first(body: ByteStream, size: int, end: asyncio.Event | HangUp) -> ByteStream:
    """The first ``size`` bytes of a longer body, then the connection's end, or silence until an event is set."""
    left = size
    async for chunk in body:
        if len(chunk) > left:
            if left:
                yield chunk[:left]
            if isinstance(end, HangUp):
                raise end
            await end.wait()
            yield chunk[left:]
            left = 1 << 62
        else:
            left -= len(chunk)
            yield chunk


@dataclass(frozen=True, slots=True)
class Latency(Fault):
    """The request waits ``seconds`` before it goes upstream."""

    seconds: float

    async def intercept(self, client: Client) -> Head | None:
        await asyncio.sleep(self.seconds)
        return None


@dataclass(frozen=True, slots=True)
class Late(Fault):
    """Takes the whole request and carries it out once ``release`` is set, whether its client is still there or not.

    From another thread: ``proxy.call(fault.release.set)``.
    """

    release: asyncio.Event = field(default_factory=asyncio.Event)
    held: list[str] = field(default_factory=list)
    """Targets of the requests that it has taken."""
    done: list[int] = field(default_factory=list)
    """What upstream answered to them."""

    async def intercept(self, client: Client) -> Head | None:
        data = await client.read()
        self.held.append(client.request.target)
        await self.release.wait()
        reader, writer = await asyncio.open_connection(*client.upstream)
        try:
            client.request.drop("Expect")
            await send(writer, client.request.encode() + data)
            head = await read_head(reader)
            if head is None:
                raise HangUp
            body = Body.of_answer(head, reader, client.request.method)
            answer = b"".join([chunk async for chunk in body.payload()])
        finally:
            writer.transport.abort()
        self.done.append(head.status)
        head.drop("Transfer-Encoding")
        if client.request.method != "HEAD":
            head.set("Content-Length", len(answer))
        with contextlib.suppress(ConnectionError):
            await send(client.writer, head.encode() + answer)
        return head


@dataclass(frozen=True, slots=True)
class SlowAnswer(Fault):
    """The answer's body arrives at ``rate`` bytes a second."""

    rate: float

    def answer(self, body: ByteStream) -> ByteStream:
        return _paced(body, self.rate)


@dataclass(frozen=True, slots=True)
class SlowRequest(Fault):
    """The request's body is taken at ``rate`` bytes a second, once 1 MiB or so of buffers is full."""

    rate: float

    def request(self, body: ByteStream) -> ByteStream:
        return _paced(body, self.rate)


@dataclass(frozen=True, slots=True)
class StallAnswer(Fault):
    """``after`` bytes of the answer's body, then silence on an open connection until ``release`` is set.

    From another thread: ``proxy.call(fault.release.set)``.
    """

    after: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self, body: ByteStream) -> ByteStream:
        return _first(body, self.after, self.release)


@dataclass(frozen=True, slots=True)
class CutAnswer(Fault):
    """``after`` bytes of the answer's body, then FIN or RST."""

    after: int = 0
    reset: bool = False

    def answer(self, body: ByteStream) -> ByteStream:
        return _first(body, self.after, HangUp(reset=self.reset))


@dataclass(frozen=True, slots=True)
class CutRequest(Fault):
    """``after`` bytes of the request's body reach upstream, then both connections end."""

    after: int = 0
    reset: bool = True

    def request(self, body: ByteStream) -> ByteStream:
        return _first(body, self.after, HangUp(reset=self.reset))


@dataclass(frozen=True, slots=True)
class LostAnswer(Fault):
    """Upstream does the work; the client never hears of it."""

    reset: bool = True

    def head(self, head: Head) -> None:
        raise HangUp(reset=self.reset)


@dataclass(frozen=True, slots=True)
class BlackHole(Fault):
    """Accepts the request, takes its body when ``reads``, and never answers."""

    reads: bool = True

    async def intercept(self, client: Client) -> Head | None:
        if self.reads:
            while await client.reader.read(1 << 18):
                pass
            raise HangUp
        await asyncio.Event().wait()  # ends when the proxy closes
        return None


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """RST in answer to the request's head."""

    async def intercept(self, client: Client) -> Head | None:
        raise HangUp(reset=True)


@dataclass(frozen=True, slots=True)
class Status(Fault):
    """An answer of the proxy's own; upstream hears nothing."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    async def intercept(self, client: Client) -> Head | None:
        await client.read_all()  # an answer before the body's end would race into a reset
        head = Head(f"HTTP/1.1 {self.status} Injected", list(self.headers.items()))
        head.set("Content-Length", len(self.body))
        await send(client.writer, head.encode() + (b"" if client.request.method == "HEAD" else self.body))
        return head


def _s3_error(code: str) -> bytes:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>injected</Message></Error>'
    return text.encode()


def slow_down(retry_after: float | str | None = None) -> Status:
    """S3's 503 SlowDown, with Retry-After (seconds or an HTTP date) when given."""
    headers = {"Content-Type": "application/xml"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return Status(503, _s3_error("SlowDown"), headers)


def s3_error(status: int, code: str) -> Status:
    """An S3 error answer."""
    return Status(status, _s3_error(code), {"Content-Type": "application/xml"})


def error_in_200(code: str = "InternalError") -> Status:
    """200 whose body is an error, as CompleteMultipartUpload and CopyObject may answer."""
    return s3_error(200, code)


def redirect(location: str, status: int = 307) -> Status:
    """An answer that sends the client elsewhere."""
    return Status(status, b"", {"Location": location})


@dataclass(frozen=True, slots=True)
class WithoutLength(Fault):
    """An answer in chunks, as from a proxy that compresses or scans; one to HEAD that says no length.

    ``after``: that many bytes, and the last chunk as if this were all.
    """

    after: int | None = None

    def head(self, head: Head) -> None:
        head.drop("Content-Length")
        head.set("Transfer-Encoding", "chunked")

    async def answer(self, body: ByteStream) -> ByteStream:
        left = self.after
        async for chunk in body:
            yield chunk if left is None else chunk[:left]
            if left is not None and (left := left - len(chunk)) <= 0:
                return


@dataclass(frozen=True, slots=True)
class WrongLength(Fault):
    """Content-Length off by ``delta`` bytes, the body as it was, then FIN."""

    delta: int

    def head(self, head: Head) -> None:
        length = head.get("Content-Length")
        if length is not None:
            head.set("Content-Length", max(0, int(length) + self.delta))

    async def finish(self, client: Client) -> None:
        raise HangUp


@dataclass(frozen=True, slots=True)
class Corrupt(Fault):
    """One bit of the answer's body, at byte ``offset``, is flipped."""

    offset: int = 0

    async def answer(self, body: ByteStream) -> ByteStream:
        seen = 0
        async for chunk in body:
            place = self.offset - seen
            seen += len(chunk)
            if 0 <= place < len(chunk):
                yield chunk[:place] + bytes([chunk[place] ^ 1]) + chunk[place + 1 :]
            else:
                yield chunk


@dataclass(frozen=True, slots=True)
class CorruptRequest(Fault):
    """One bit of the request's body, at byte ``offset``, is flipped on its way upstream."""

    offset: int = 0

    def request(self, body: ByteStream) -> ByteStream:
        return Corrupt(self.offset).answer(body)


@dataclass(frozen=True, slots=True)
class StaleKeepAlive(Fault):
    """A right answer that promises keep-alive, then the connection ends.

    At once with FIN; or, ``on_reuse``, with RST under the next request.
    """

    on_reuse: bool = False

    def head(self, head: Head) -> None:
        head.set("Connection", "keep-alive")

    async def finish(self, client: Client) -> None:
        if self.on_reuse:
            await client.reader.read(1)
        raise HangUp(reset=self.on_reuse)
