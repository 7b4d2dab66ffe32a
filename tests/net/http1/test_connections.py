"""Connections and answers as they are on the wire, over TCP and over TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.errors import (
    ConnectTimeout,
    FetchFailed,
    FetchRefused,
    FirstByteTimeout,
    SourceTruncated,
    UrlNotAllowed,
)
from mediagen.net.http1.dialer import Dialer
from mediagen.net.http1.response import Response, send_request
from mediagen.net.http1.response_body import open_body
from mediagen.net.policy import check_text
from mediagen.net.requests import get
from mediagen.net.session import Session, guarded_dialer, guarded_session
from mediagen.streams.base import KIB
from tests.net.conftest import fetch_settings

SETTINGS = fetch_settings(connect_seconds=20, first_byte_seconds=20, stall_seconds=20)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]
BODY = bytes(range(256)) * 40


@asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server on loopback whose every connection is ``serve``'s; gives its URL."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"


def answering(*pieces: bytes, then: Callable[[], Any] | None = None) -> Serve:
    """Gives the pieces, each when the one before has gone; keeps the connection until the client has gone."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)
        if then is not None:
            then()
        elif b"keep" not in pieces[0]:
            return
        await reader.read()

    return serve


@pytest.fixture(params=["http", "https"])
def server_tls(request: pytest.FixtureRequest, certificate: Path) -> ssl.SSLContext | None:
    if request.param == "http":
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
async def session(sockets_end: None, trusting: ssl.SSLContext) -> AsyncIterator[Session]:
    async with guarded_session(SETTINGS, tls=trusting) as session:
        yield session


async def body_of(response: Response, *, step: int = 3000, in_thread: bool = False) -> bytes:
    body, out, buffer = open_body(response, stall=20), bytearray(), memoryview(bytearray(step))
    try:
        while True:
            count = await asyncio.to_thread(body.try_read, buffer, within=0.002) if in_thread else 0
            count = count or await body.read_into(buffer)
            if not count:
                return bytes(out)
            out += buffer[:count]
    finally:
        body.close()


async def downloaded(session: Session, url: str, **how: Any) -> bytes:
    return await body_of(await get(session, url, SETTINGS, {}), **how)


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


TAKEN = {
    "length": b"Content-Length: %d\r\nX: keep\r\n\r\n" % len(BODY) + BODY,
    "no length": b"Connection: close\r\n\r\n" + BODY,
    "equal lengths": b"Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (len(BODY), len(BODY)) + BODY,
    "equal lengths, a list": b"Content-Length: %d, %d\r\n\r\n" % (len(BODY), len(BODY)) + BODY,
    "identity": b"Transfer-Encoding: identity\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
    "bytes behind the length": b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY + b"<!-- behind -->",
    "bytes behind, kept open": b"Content-Length: %d\r\nX: keep\r\n\r\n" % len(BODY) + BODY + b"behind",
    "an answer behind": b"Content-Length: %d\r\nX: keep\r\n\r\n" % len(BODY) + BODY + b"HTTP/1.1 200 OK\r\n\r\n",
    "chunked": b"Transfer-Encoding: chunked\r\nX: keep\r\n\r\n" + chunked(BODY[:1], BODY[1:5000], BODY[5000:]),
    "chunked with a length": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + chunked(BODY),
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(BODY),
    "small chunks": b"Transfer-Encoding: chunked\r\n\r\n"
    + chunked(*(BODY[at : at + 7] for at in range(0, len(BODY), 7))),
    "tiny chunks": b"Transfer-Encoding: chunked\r\n\r\n" + chunked(*(BODY[at : at + 1] for at in range(len(BODY)))),
    "no end of the trailer": b"Transfer-Encoding: chunked\r\nX: keep\r\n\r\n" + chunked(BODY)[:-2] + b"A: b\r\n",
    "odd names": b"X A(1) : b\r\nContent-Length : %d\r\n\r\n" % len(BODY) + BODY,
    "a long line": b"A: %b\r\nContent-Length: %d\r\n\r\n" % (b"b" * 20_000, len(BODY)) + BODY,
    "many lines": b"A: b\r\n" * 250 + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    "bare line feeds": b"Content-Length: %d\n\n" % len(BODY) + BODY,
}


@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize("kind", TAKEN)
async def test_framing_that_curl_takes(
    session: Session, server_tls: ssl.SSLContext | None, kind: str, in_thread: bool
) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + TAKEN[kind]

    async with listening(answering(answer), server_tls) as url:
        assert await downloaded(session, url, in_thread=in_thread) == BODY


@pytest.mark.parametrize("size", [1, 2, 3, 17, 100])
async def test_an_answer_in_small_pieces(session: Session, server_tls: ssl.SSLContext | None, size: int) -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n"
    answer += b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"hello ", b"world")
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]

    async with listening(answering(*pieces), server_tls) as url:
        assert await downloaded(session, url, step=5) == b"hello world"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + chunked(b"\x1f\x8b"),
            "transfer coding 'gzip'",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "two lengths"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", "longer than 64 KiB"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 400 + b"\r\n", "more than 300 lines"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n", "another protocol"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP/1"),
    ],
)
async def test_an_answer_that_is_refused_says_why(
    session: Session, server_tls: ssl.SSLContext | None, answer: bytes, says: str
) -> None:
    async with listening(answering(answer), server_tls) as url:
        with pytest.raises(FetchRefused, match=says):
            await get(session, url, SETTINGS, {})


@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (b"Content-Length: 10\r\n\r\nhello", SourceTruncated, "5 bytes before"),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", SourceTruncated, "last chunk"),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", SourceTruncated, "last chunk"),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n", FetchRefused, "longer than its size"),
        (b"Transfer-Encoding: chunked\r\n\r\nhello", FetchFailed, "last chunk"),
    ],
)
async def test_a_body_that_is_not_whole(
    session: Session,
    server_tls: ssl.SSLContext | None,
    answer: bytes,
    error: type[FetchFailed],
    says: str,
    in_thread: bool,
) -> None:
    async with listening(answering(b"HTTP/1.1 200 OK\r\n" + answer), server_tls) as url:
        with pytest.raises(error, match=says):
            await downloaded(session, url, in_thread=in_thread)


async def test_the_first_byte_has_its_own_time(sockets_end: None) -> None:
    """However long the limit for the connection is: the two are not added up."""
    limits = fetch_settings(connect_seconds=100, first_byte_seconds=0.2)

    async with listening(answering(b"keep", then=lambda: None)) as url, guarded_session(limits) as session:
        async with asyncio.timeout(30):
            with pytest.raises(FetchRefused, match="not HTTP/1"):
                await get(session, url, limits, {})

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as url, guarded_session(limits) as session:
        async with asyncio.timeout(30):
            with pytest.raises(FirstByteTimeout, match=r"within 0\.2 s"):
                await get(session, url, limits, {})


async def test_a_handshake_that_does_not_end_is_no_connection(sockets_end: None) -> None:
    limits = fetch_settings(connect_seconds=0.2, first_byte_seconds=100)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as url, guarded_session(limits) as session:
        with pytest.raises(ConnectTimeout):
            await get(session, url.replace("http:", "https:"), limits, {})


# -- the cause of a failure


async def failure(session: Session, url: str) -> FetchFailed:
    with pytest.raises(FetchFailed) as failed:
        await get(session, url, SETTINGS, {})
    assert "127.0.0" not in failed.value.detail
    return failed.value


async def test_the_cause_of_a_failure_is_named(session: Session, certificate: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        refused = await failure(session, f"http://127.0.0.1:{bound.getsockname()[1]}/")
    assert refused.detail == "no connection to the source: the connection was refused"
    assert refused.retryable

    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org\r\n")
        await reader.read()

    async with listening(greets) as url:
        plain = await failure(session, url.replace("http:", "https:"))
    assert plain.detail == "no connection to the source: it does not speak TLS there"


async def test_what_is_wrong_with_a_certificate_is_named(certificate: Path, trusting: ssl.SSLContext) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    limits = fetch_settings(allow_cidrs=["127.0.0.0/8"])

    async with listening(answering(b"HTTP/1.1 200 OK\r\n\r\n"), context) as url:
        async with guarded_session(limits) as session:
            unknown = await failure(session, url)
        async with guarded_session(limits, tls=trusting, lookup=at_loopback) as session:
            other = await failure(session, url.replace("127.0.0.1", "other.test"))

    assert "certificate is not trusted: nobody but itself vouches for it" in unknown.detail
    assert "certificate is not trusted: it is for another name" in other.detail
    assert not unknown.retryable


def at_loopback(host: str, port: int, family: int) -> list[tuple[Any, Any, int, str, Any]]:
    return socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "its name is not known"),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), "its name could not be looked up just now"),
        (UnicodeError("label too long"), "its name is none that DNS can have"),
        (None, "its name has no address"),
    ],
)
async def test_a_failure_of_dns_is_named(error: Exception | None, says: str) -> None:
    def lookup(host: str, port: int, family: int) -> list[tuple[Any, Any, int, str, Any]]:
        if error is not None:
            raise error
        return []

    async with guarded_session(SETTINGS, lookup=lookup) as session:
        failed = await failure(session, "http://example.test/")

    assert failed.detail == f"no connection to the source: {says}"


async def test_an_address_that_is_not_allowed_names_the_settings_and_no_address(session: Session) -> None:
    with pytest.raises(UrlNotAllowed) as refused:
        await get(session, "http://127.0.0.3/", SETTINGS, {})

    assert "fetch.allow_cidrs" in refused.value.detail
    assert "127" not in refused.value.detail


async def test_the_second_address_of_a_name_is_tried() -> None:
    def two(host: str, port: int, family: int) -> list[tuple[Any, Any, int, str, Any]]:
        return [answer for each in ("127.0.0.9", "127.0.0.1") for answer in at(each, port)]

    def at(address: str, port: int) -> list[tuple[Any, Any, int, str, Any]]:
        return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)

    limits = fetch_settings(allow_cidrs=["127.0.0.0/8"])
    server = listening(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
    async with server as url, guarded_session(limits, lookup=two) as session:
        assert await downloaded(session, url.replace("127.0.0.1", "two.test")) == b"hi"


async def test_a_name_is_looked_up_once_for_many_connections() -> None:
    asked: list[str] = []

    def lookup(host: str, port: int, family: int) -> list[tuple[Any, Any, int, str, Any]]:
        asked.append(host)
        return at_loopback(host, port, family)

    server = listening(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
    async with server as url, guarded_session(SETTINGS, lookup=lookup) as session:
        for _ in range(3):
            assert await downloaded(session, url.replace("127.0.0.1", "One.test")) == b"hi"

    assert asked == ["One.test"]


# -- cookies of a chain


class Gate:
    """Sends everybody on until they bring the cookie that it gave them."""

    def __init__(self, set_cookie: str, to: str = "/gate") -> None:
        self.cookies: list[str] = []
        self._answer = f"HTTP/1.1 302 Found\r\nSet-Cookie: {set_cookie}\r\nLocation: {to}\r\n\r\n".encode()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        found = [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("cookie:")]
        self.cookies += found or [""]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: late=1\r\n\r\nhi" if found else self._answer)
        await writer.drain()


async def test_a_redirect_that_wants_its_cookie_back_gets_it_and_nobody_keeps_it(session: Session) -> None:
    gate = Gate("s=a%20b; Path=/; HttpOnly")

    async with listening(gate) as url:
        for _ in range(2):
            assert await downloaded(session, url) == b"hi"

    assert gate.cookies == ["", "s=a%20b"] * 2


@pytest.mark.parametrize(
    "cookie",
    [
        "s=1; Domain=example.org",
        "s=1; Path=/elsewhere",
        "s=1; Secure",
        "s=1; Max-Age=0",
        "s=" + "x" * 9000,
        "no cookie at all",
    ],
)
async def test_a_cookie_goes_only_where_it_is_for(session: Session, cookie: str) -> None:
    gate = Gate(cookie)

    async with listening(gate) as url:
        with pytest.raises(FetchRefused, match="redirects more than 10 times"):
            await get(session, url, SETTINGS, {})

    assert gate.cookies == [""] * 11


async def test_a_cookie_does_not_reach_another_host(session: Session) -> None:
    other = Gate("t=1")
    limits = fetch_settings(allow_cidrs=["127.0.0.0/8"])
    async with listening(other) as there:
        gate = Gate("s=1; Path=/", there.replace("127.0.0.1", "localhost"))
        async with listening(gate) as url, guarded_session(limits) as wide:
            assert await downloaded(wide, url) == b"hi"

    assert other.cookies == ["", "t=1"]


# -- requests with a body


@pytest.fixture
async def dialer(sockets_end: None, trusting: ssl.SSLContext) -> AsyncIterator[Dialer]:
    async with guarded_dialer(SETTINGS, tls=trusting) as dialer:
        yield dialer


async def pieces_of(data: bytes, *, times: int = 1) -> AsyncGenerator[bytes, None]:
    for _ in range(times):
        yield data


async def posted(dialer: Dialer, url: str, body: AsyncGenerator[bytes, None] | None, length: int) -> Response:
    target = check_text(url)
    sock = await dialer.connect(target)
    return await send_request(sock, "POST", target, {"Content-Length": str(length)} if body else {}, body)


async def test_a_body_arrives_whole(dialer: Dialer, server_tls: ssl.SSLContext | None) -> None:
    got = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        got.extend(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 201 Made\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    async with listening(serve, server_tls) as url:
        response = await posted(dialer, url, pieces_of(BODY, times=200), 200 * len(BODY))
        assert (response.status, await body_of(response)) == (201, b"ok")
        assert got == BODY * 200
        got.clear()
        assert await body_of(await posted(dialer, url, None, 0)) == b"ok"
        assert got == b""


@pytest.mark.parametrize("leaves", [False, True])
async def test_an_answer_that_comes_before_the_body_has_gone_counts(
    dialer: Dialer, server_tls: ssl.SSLContext | None, leaves: bool
) -> None:
    """A server that refuses a request reads no more of it, and may close the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        if not leaves:
            await gone.wait()

    gone = asyncio.Event()
    async with listening(serve, server_tls) as url:
        response = await posted(dialer, url, pieces_of(bytes(256 * KIB), times=1000), 1000 * 256 * KIB)
        assert response.status == 413
        response.close()
        gone.set()


async def test_what_the_body_raises_is_raised_and_the_connection_closed(
    dialer: Dialer, server_tls: ssl.SSLContext | None
) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            ended.set()

    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"some"
        raise SourceTruncated("its own source")

    async with listening(serve, server_tls) as url:
        with pytest.raises(SourceTruncated, match="its own source"):
            await posted(dialer, url, broken(), 100)
        async with asyncio.timeout(20):
            await ended.wait()


async def test_a_connection_that_breaks_while_the_body_goes_is_an_error(
    dialer: Dialer, server_tls: ssl.SSLContext | None
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with listening(serve, server_tls) as url:
        with pytest.raises(OSError):
            await posted(dialer, url, pieces_of(bytes(256 * KIB), times=1000), 1000 * 256 * KIB)


@pytest.mark.parametrize(("name", "value"), [("A", "b\r\nC: d"), ("A\n", "b"), ("A", "b\0")])
async def test_a_line_of_a_request_cannot_be_split(dialer: Dialer, name: str, value: str) -> None:
    async with listening(answering(b"HTTP/1.1 200 OK\r\n\r\n")) as url:
        target = check_text(url)
        sock = await dialer.connect(target)
        with pytest.raises(ValueError, match="would end it"):
            await send_request(sock, "GET", target, {name: value})
