"""A server that answers as an S3 store would, checks nothing and keeps every request as it was on the wire."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.infra.servers.http_messages import Body, Head, read_head, send
from tests.infra.servers.listener import Listener

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(slots=True)
class Seen:
    """One request."""

    head: Head
    body: bytearray = field(default_factory=bytearray)
    answered: bool = False
    connection: int = 0
    """Number of the connection over which it came."""

    @property
    def headers(self) -> dict[str, str]:
        return self.head.headers()


Answer = Callable[[Seen], tuple[int, bytes]]


def an_answer(seen: Seen) -> tuple[int, bytes]:
    """What a store without objects says to a request."""
    method, target = seen.head.method, seen.head.target
    if method == "POST" and target.endswith("?uploads"):
        text = f'<InitiateMultipartUploadResult xmlns="{NAMESPACE}"><UploadId>up-1</UploadId>'
        return 200, f"{text}</InitiateMultipartUploadResult>".encode()
    if method == "POST":
        text = f'<CompleteMultipartUploadResult xmlns="{NAMESPACE}"><ETag>"whole"</ETag>'
        return 200, f"{text}</CompleteMultipartUploadResult>".encode()
    if method == "PUT":
        return 200, b""
    if method == "DELETE":
        return 204, b""
    return 404, b""


@dataclass(slots=True)
class RawStore:
    """The server, inside ``async with`` on the running loop. ``expectation`` is what it does about ``Expect``."""

    answer: Answer = an_answer
    tls: ssl.SSLContext | None = None
    expectation: str = "continue"
    """What it does when a body asks to be wait_for_continue.

    ``continue``: says 100 and reads; ``silent``: says nothing and reads; ``final``: answers at once, reads nothing;
    ``refuses``: answers 417; ``deaf``: says 100, never reads.
    """
    etag: bool = True
    fields: Callable[[Seen], list[tuple[str, str]]] = lambda _: []
    """Further fields of its answer."""
    seen: list[Seen] = field(default_factory=list)
    _listener: Listener = field(init=False)
    _connections: int = 0

    def __post_init__(self) -> None:
        self._listener = Listener(self._serve, tls=self.tls)

    @property
    def url(self) -> str:
        return f"https://localhost:{self._listener.port}" if self.tls else f"http://127.0.0.1:{self._listener.port}"

    async def __aenter__(self) -> RawStore:
        await self._listener.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections = number = self._connections + 1
        while (head := await read_head(reader)) is not None:
            seen = Seen(head, connection=number)
            self.seen.append(seen)
            expects = head.has_token("Expect", "100-continue")
            if expects and self.expectation == "refuses":
                seen.answered = True
                await send(writer, b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
                return
            if expects and self.expectation in {"continue", "deaf"}:
                await send(writer, b"HTTP/1.1 100 Continue\r\n\r\n")
            if expects and self.expectation == "deaf":
                await asyncio.Event().wait()  # ends when the server closes
            if not expects or self.expectation in {"continue", "silent"}:
                async for chunk in Body.of_request(head, reader).payload():
                    seen.body += chunk
            status, body = self.answer(seen)
            fields = [("Content-Length", str(len(body))), *self.fields(seen)]
            if head.method == "PUT" and self.etag:
                fields.append(("ETag", '"etag"'))
            seen.answered = True
            await send(writer, Head(f"HTTP/1.1 {status} Said", fields).encode() + body)
            if expects and self.expectation == "final":
                return
