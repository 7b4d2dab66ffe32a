"""A request over a connection of its own, and the answer to it (RFC 9112).

The connection belongs to one request and its answer until whoever has the answer closes it. It is in no pool, and
nothing but the answer's reader ever receives from it; so no byte can reach anybody else, whatever the other side sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Final

from multidict import CIMultiDict
from yarl import URL

from mediagen.core.errors import FetchRefused, first_cause
from mediagen.net.http1.head import Framing, Head, check_size, check_start, find_end_of_head, parse_framing, parse_head
from mediagen.net.http1.raw_socket import ByteSocket, SocketReader, send_all
from mediagen.streams.base import KIB

_READ: Final = 16 * KIB
_LAST_WORDS_SECONDS: Final = 1.0


class Response:
    """An answer whose body is unread, with the connection that brings it.

    Attributes:
        url: what was asked for, as it was spelled.
        headers: values as Latin-1, every field in its order.
        content_length: bytes of the body; None when the framing does not say.
        reader: the connection behind the head. early: bytes of the body that came with the head.
    """

    def __init__(self, url: URL, head: Head, framing: Framing, reader: SocketReader, early: bytes) -> None:
        self.url = url
        self.status = head.status
        self.reason = head.reason
        self.headers = head.headers
        self.framing = framing
        self.content_length = framing.length
        self.reader = reader
        self.early = early

    @property
    def self_delimiting(self) -> bool:
        """Whether the framing itself proves the end of the body: a length or a last chunk, not the connection's end."""
        return self.framing.self_delimiting

    @property
    def media_type(self) -> str:
        """Of ``Content-Type``, in lower case and without its parameters; bytes of any kind when it says nothing."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower() or "application/octet-stream"

    def close(self) -> None:
        """Close the connection; what has not come of the body will not. May be called again."""
        self.reader.close()


async def send_request(
    sock: ByteSocket,
    method: str,
    url: URL,
    headers: Mapping[str, str],
    body: AsyncGenerator[bytes, None] | None = None,
) -> Response:
    """Send a request over ``sock``, which belongs to the answer from here on and is closed when there is none.

    An answer that comes before all of ``body`` has gone counts, and the rest is not sent.

    Args:
        headers: with ``Content-Length`` when there is a body.

    Raises:
        FetchRefused: what came is no answer that can be read.
        ConnectionError: the other side ended the connection before its answer.
        OSError: the connection broke.
        Exception: what ``body`` raises.
    """
    reader = SocketReader(sock)
    try:
        await send_all(sock, request_head(method, url, headers))
        head, early = await (receive_head(reader) if body is None else _exchange(sock, reader, body))
        return Response(url, head, parse_framing(head), reader, early)
    except BaseException:
        reader.close()
        raise


async def _exchange(sock: ByteSocket, reader: SocketReader, body: AsyncGenerator[bytes, None]) -> tuple[Head, bytes]:
    """Send ``body`` and listen for the answer at once."""
    try:
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(_send_body(sock, body))
            answer = group.create_task(receive_head(reader))
            await asyncio.wait([sending, answer], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and (lost := await sending) is not None:
                # who does not want the rest of a body may have said why before closing the connection
                await asyncio.wait([answer], timeout=_LAST_WORDS_SECONDS)
                if not answer.done():
                    raise lost
            head = await answer
            sending.cancel()
    except BaseExceptionGroup as several:
        raise first_cause(several) from None
    return head


async def _send_body(sock: ByteSocket, body: AsyncGenerator[bytes, None]) -> OSError | None:
    """Send all of ``body``; what broke the connection meanwhile."""
    async with aclosing(body):
        async for piece in body:
            try:
                await send_all(sock, piece)
            except OSError as exc:
                return exc
    return None


def request_head(method: str, url: URL, headers: Mapping[str, str]) -> bytes:
    """The head of a request, its target as it is spelled. Raises ValueError for what cannot stand in one."""
    fields = CIMultiDict({"Host": _host_of(url)})
    fields.update(headers)
    if method not in ("GET", "HEAD", "DELETE"):
        fields.setdefault("Content-Length", "0")
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if any(char in line for line in lines for char in "\r\n\0") or " " in url.raw_path_qs:
        raise ValueError("a line of a request with characters that would end it")
    return "\r\n".join([*lines, "", ""]).encode()


def _host_of(url: URL) -> str:
    host = url.raw_host or ""
    host = f"[{host}]" if ":" in host else host
    return host if url.is_default_port() else f"{host}:{url.port}"


async def receive_head(reader: SocketReader, *, on_continue: Callable[[], object] | None = None) -> tuple[Head, bytes]:
    """The head of the final answer, and the bytes behind it. Interim answers (1xx) are read over.

    ``on_continue``: called for each ``100 Continue``.
    """
    received, scratch, seen = bytearray(), memoryview(bytearray(_READ)), 0
    while True:
        end = find_end_of_head(received, seen)
        if end is not None:
            head = parse_head(bytes(received[:end]))
            if head.status == 101:
                raise FetchRefused("the answer changes to another protocol, which was not asked for")
            if head.status >= 200:
                return head, bytes(received[end:])
            if head.status == 100 and on_continue is not None:
                on_continue()
            received[:end] = b""
            seen = 0
            continue
        check_start(received)
        check_size(received)
        seen = len(received)
        count = await reader.read_into(scratch, gather=False)
        if not count:
            raise ConnectionError("the connection ended before the answer" if not received else "the head was cut off")
        received += scratch[:count]
