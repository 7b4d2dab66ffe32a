"""Uploads over connections that are used again, over TCP and over TLS, against servers that do what they should not."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from mediagen.core.errors import FetchFailed, FetchRefused, SourceTruncated
from mediagen.net.http1.connection import Answer, Connection, ConnectionPool, StaleConnection
from mediagen.net.http1.dialer import Dialer, default_tls
from mediagen.streams.base import KIB, MIB, Target
from mediagen.streams.parts import BufferBody, RangeBody
from tests.contracts.uploads import BytesReader, Readings, the_bytes
from tests.infra.servers.http_messages import Head, read_head, send
from tests.infra.servers.listener import Listener, send_reset
from tests.net.http1.test_tls_socket import plain
from tests.streams.targets import THREADS

LARGE = the_bytes(24 * MIB + 5)
SMALL = the_bytes(5000)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Say = Callable[["Exchange"], Awaitable[bool]]


@dataclass
class Exchange:
    """One request of a connection, and how to go on with it."""

    head: Head
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    """Of the connection, from 1."""

    async def say(self, answer: bytes) -> None:
        await send(self.writer, answer)

    async def body(self, most: int | None = None) -> bytes:
        length = int(self.head.get("Content-Length") or 0)
        return await self.reader.readexactly(length if most is None else most)


@dataclass
class Server:
    """Answers each request as ``say`` does, which gives whether the connection stays."""

    url: URL
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    ended: int = 0
    end: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def serving(say: Say, tls: ssl.SSLContext | None) -> AsyncIterator[Server]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        number = server.connections
        try:
            while (head := await read_head(reader)) is not None and await say(Exchange(head, reader, writer, number)):
                pass
        finally:
            server.ended += 1
            server.end.set()

    listener = Listener(serve, tls=tls)
    await listener.open()
    server = Server(URL(f"{'https' if tls else 'http'}://localhost:{listener.port}/x"))
    try:
        yield server
    finally:
        await listener.close()


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest, certificate: Path) -> ssl.SSLContext | None:
    if request.param == "http":
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
async def pool(trusting: ssl.SSLContext, sockets_end: None) -> AsyncIterator[ConnectionPool]:
    dialer = Dialer(ThreadedResolver(), plain, tls=trusting, seconds=10)
    pool = ConnectionPool(dialer.connect, idle_seconds=20)
    yield pool
    pool.close()


class Poured:
    """A body, as ``connection.Upload`` wants it."""

    def __init__(self, body: BufferBody | RangeBody) -> None:
        self._body = body
        self._left = 0
        self.pours = 0
        self.offered = 0
        """Bytes that went from a byte thread."""

    def __len__(self) -> int:
        return len(self._body)

    @property
    def given(self) -> bool:
        return self.pours > 0 and self._left == 0

    async def write_to(self, target: Target, /) -> None:
        self.pours += 1
        self._left = len(self._body)
        outer = self

        class Counting:
            async def write(self, view: memoryview, /) -> None:
                outer._left -= len(view)
                await target.write(view)

            def try_write(self, view: memoryview, /, *, within: float) -> int:
                count = target.try_write(view, within=within)
                outer._left -= count
                outer.offered += count
                return count

        await self._body.write_to(Counting())


def in_buffer(data: bytes) -> Poured:
    return Poured(BufferBody(memoryview(data), threads=THREADS))


def in_ranges(data: bytes, reader: BytesReader | None = None) -> Poured:
    meter = Readings(None).meter
    return Poured(RangeBody(reader or BytesReader(data), 0, len(data), meter=meter, threads=THREADS))


async def uploaded(
    pool: ConnectionPool,
    url: URL,
    body: Poured,
    wait_for_continue: Callable[[asyncio.Event], Awaitable[None]] | None = None,
) -> Answer:
    connection = await pool.acquire(url)
    try:
        return await over(connection, url, body, wait_for_continue)
    finally:
        pool.release(url, connection)


async def over(
    connection: Connection,
    url: URL,
    body: Poured,
    wait_for_continue: Callable[[asyncio.Event], Awaitable[None]] | None = None,
) -> Answer:
    headers = {"Content-Length": str(len(body)), **({"Expect": "100-continue"} if wait_for_continue else {})}
    return await connection.upload("PUT", url, headers, body, stall=10, wait_for_continue=wait_for_continue)


async def by_event(continued: asyncio.Event) -> None:
    await continued.wait()


async def take_all(exchange: Exchange) -> bool:
    await exchange.body()
    await exchange.say(OK)
    return True


@pytest.mark.parametrize("lane", [in_buffer, in_ranges])
@pytest.mark.parametrize("size", [0, 1, 64 * KIB, 64 * KIB + 1, 512 * KIB, MIB + 1, len(LARGE)])
async def test_bodies_arrive_whole_over_one_connection(
    pool: ConnectionPool, tls: ssl.SSLContext | None, lane: Callable[[bytes], Poured], size: int
) -> None:
    data, bodies = LARGE[:size], list[bytes]()

    async def take(exchange: Exchange) -> bool:
        await exchange.say(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        bodies.append(await exchange.body())
        await exchange.say(OK)
        return True

    async with serving(take, tls) as server:
        for _ in range(3):
            answer = await uploaded(pool, server.url, lane(data), by_event)
            assert (answer.status, answer.body) == (200, b"ok")
        assert server.connections == 1
        pool.close()

    assert bodies == [data] * 3


@pytest.mark.parametrize("lane", [in_buffer, in_ranges])
async def test_byte_threads_carry_a_body(
    pool: ConnectionPool, tls: ssl.SSLContext | None, lane: Callable[[bytes], Poured]
) -> None:
    body = lane(LARGE)
    async with serving(take_all, tls) as server:
        assert (await uploaded(pool, server.url, body)).status == 200
        pool.close()

    assert body.offered > len(LARGE) // 2


async def test_many_at_once_do_not_mix(pool: ConnectionPool, tls: ssl.SSLContext | None) -> None:
    """Each answers with what it was told; a body is in its own connection alone."""

    async def take(exchange: Exchange) -> bool:
        data = await exchange.body()
        await exchange.say(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + data[:4] + data[-4:])
        return True

    async with serving(take, tls) as server:

        async def work(first: int) -> None:
            for number in range(first, first + 5):
                mark = number.to_bytes(4, "big")
                body = mark * (300_000 + number * 1000)
                answer = await uploaded(pool, server.url, (in_buffer if number % 2 else in_ranges)(body))
                assert answer.body == mark * 2

        async with asyncio.TaskGroup() as group:
            for first in range(0, 60, 5):
                group.create_task(work(first))
        assert server.connections <= 12
        pool.close()


@pytest.mark.parametrize("status", [403, 413, 503, 307])
async def test_a_refusal_in_the_middle_ends_the_body(
    pool: ConnectionPool, tls: ssl.SSLContext | None, status: int
) -> None:
    """The server reads no further; the connection is closed, and the next upload has another one."""

    async def refuse(exchange: Exchange) -> bool:
        if exchange.number > 1:
            return await take_all(exchange)
        await exchange.body(300_000)
        await exchange.say(b"HTTP/1.1 %d No\r\nContent-Length: 6\r\n\r\nreason" % status)
        await asyncio.Event().wait()
        return True

    async with serving(refuse, tls) as server:
        answer = await uploaded(pool, server.url, in_ranges(LARGE))
        assert (answer.status, answer.body) == (status, b"reason")
        assert (await uploaded(pool, server.url, in_buffer(SMALL))).status == 200
        assert server.connections == 2


async def test_a_refusal_instead_of_an_invitation_costs_no_byte(
    pool: ConnectionPool, tls: ssl.SSLContext | None
) -> None:
    async def refuse(exchange: Exchange) -> bool:
        await exchange.say(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
        assert await exchange.reader.read() == b""
        return False

    body = in_ranges(LARGE)
    async with serving(refuse, tls) as server:
        assert (await uploaded(pool, server.url, body, by_event)).status == 417
        assert body.pours == 0
        await server.end.wait()


async def test_no_success_before_the_body_has_gone(pool: ConnectionPool, tls: ssl.SSLContext | None) -> None:
    async def lie(exchange: Exchange) -> bool:
        await exchange.body(1000)
        await exchange.say(OK)
        await asyncio.Event().wait()
        return True

    async with serving(lie, tls) as server:
        with pytest.raises(ConnectionError, match="before the body had gone"):
            await uploaded(pool, server.url, in_ranges(LARGE))


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("lane", [in_buffer, in_ranges])
async def test_a_connection_cut_in_the_middle(
    pool: ConnectionPool, tls: ssl.SSLContext | None, lane: Callable[[bytes], Poured], reset: bool
) -> None:
    async def cut(exchange: Exchange) -> bool:
        await exchange.body(MIB)
        if reset:
            await send_reset(exchange.writer)
        return False

    async with serving(cut, tls) as server:
        async with asyncio.timeout(20):
            with pytest.raises(OSError):
                await uploaded(pool, server.url, lane(LARGE))


async def test_last_words_before_a_reset_count(pool: ConnectionPool) -> None:
    """The loop hears of the lost connection from its own write, before it has read the answer that lies there."""
    reset = threading.Event()

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.recv(64 * KIB)
            client.sendall(b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\nConnection: close\r\n\r\nwhy")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.set()

    class Late(Poured):
        async def write_to(self, target: Target, /) -> None:
            self.pours += 1
            while not reset.is_set():
                pass  # not a turn for anybody else
            await target.write(memoryview(SMALL))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(serve, listener))
            url = URL(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            answer = await uploaded(pool, url, Late(BufferBody(memoryview(SMALL))))
    assert (answer.status, answer.body) == (400, b"why")


async def test_a_slow_server_gets_all(pool: ConnectionPool, tls: ssl.SSLContext | None) -> None:
    got = bytearray()

    async def sip(exchange: Exchange) -> bool:
        while len(got) < len(LARGE):
            got.extend(await exchange.reader.read(100_000))
            await asyncio.sleep(0.0005)
        await exchange.say(OK)
        return True

    async with serving(sip, tls) as server:
        assert (await uploaded(pool, server.url, in_ranges(LARGE))).status == 200
        pool.close()
    assert got == LARGE


@pytest.mark.parametrize("where", ["invited", "loop", "thread"])
async def test_cancelled_anywhere_nothing_is_left(pool: ConnectionPool, tls: ssl.SSLContext | None, where: str) -> None:
    """No thread has the socket any more when the cancelled upload ends, and the server sees the connection end."""
    begun = asyncio.Event()
    inside, go_on = threading.Event(), threading.Event()

    class Slow(BytesReader):
        def try_read(self, buffer: memoryview, /, *, within: float) -> int:
            inside.set()
            assert go_on.wait(20)
            return super().try_read(buffer, within=within)

    async def stop(exchange: Exchange) -> bool:
        begun.set()
        if where == "invited":
            await exchange.reader.read()
            return False
        if where == "loop":
            await asyncio.Event().wait()
        return await take_all(exchange)

    body = in_ranges(LARGE, Slow(LARGE) if where == "thread" else BytesReader(LARGE, stall_at=3 * MIB))
    async with serving(stop, tls) as server:
        async with asyncio.TaskGroup() as group:
            work = group.create_task(uploaded(pool, server.url, body, by_event if where == "invited" else None))
            await begun.wait()
            if where == "thread":
                await asyncio.to_thread(inside.wait, 20)
            work.cancel()
            if where == "thread":
                done, _ = await asyncio.wait([work], timeout=0.02)
                assert not done, "its thread is still at work"
                go_on.set()
        assert work.cancelled()
        if where != "loop":
            await server.end.wait()


async def test_what_stops_the_body_ends_the_request(pool: ConnectionPool, tls: ssl.SSLContext | None) -> None:
    async with serving(take_all, tls) as server:
        with pytest.raises(FetchFailed, match="the source broke"):
            await uploaded(pool, server.url, in_ranges(LARGE, BytesReader(LARGE, fail_at=2 * MIB)))
        await server.end.wait()


NOT_AGAIN = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + OK,
    b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno",
]


@pytest.mark.parametrize("answer", NOT_AGAIN)
async def test_which_connections_are_not_used_again(
    pool: ConnectionPool, tls: ssl.SSLContext | None, answer: bytes
) -> None:
    async def say(exchange: Exchange) -> bool:
        await exchange.body()
        await exchange.say(answer)
        return True

    async with serving(say, tls) as server:
        for number in (1, 2):
            assert (await uploaded(pool, server.url, in_buffer(SMALL))).body in (b"ok", b"no")
            assert server.connections == number


async def test_bytes_that_nobody_asked_for_end_a_connection(pool: ConnectionPool, tls: ssl.SSLContext | None) -> None:
    """An answer that comes while no request is on its way would be taken for that to the next one."""
    again = asyncio.Event()

    async def talk(exchange: Exchange) -> bool:
        await take_all(exchange)
        if exchange.number == 1:
            await again.wait()
            await exchange.say(b"HTTP/1.1 204 Wrong\r\n\r\n")
            said.set()
        return True

    said = asyncio.Event()
    async with serving(talk, tls) as server:
        assert (await uploaded(pool, server.url, in_buffer(SMALL))).status == 200
        again.set()
        await said.wait()
        assert (await uploaded(pool, server.url, in_buffer(SMALL))).status == 200
        assert server.connections == 2
        pool.close()


async def test_a_connection_that_ended_while_it_was_idle_is_replaced(
    pool: ConnectionPool, tls: ssl.SSLContext | None
) -> None:
    async def once(exchange: Exchange) -> bool:
        await take_all(exchange)
        return False

    async with serving(once, tls) as server:
        for number in (1, 2, 3):
            assert (await uploaded(pool, server.url, in_buffer(SMALL))).status == 200
            assert server.connections == number
            while server.ended < number:
                server.end.clear()
                await server.end.wait()
            await asyncio.sleep(0.02)  # its end is on its way


@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_connection_that_ends_as_it_is_used_again_has_taken_nothing(
    pool: ConnectionPool, tls: ssl.SSLContext | None, abruptly: bool
) -> None:
    """The server closes on the next head: the caller may try another connection, for no byte of the body has gone."""

    async def shut(exchange: Exchange) -> bool:
        if exchange.head.get("Expect"):
            if abruptly:  # over TLS without its farewell
                exchange.writer.transport.abort()
            return False
        return await take_all(exchange)

    body = in_ranges(LARGE)
    async with serving(shut, tls) as server:
        connection = await pool.acquire(server.url)
        assert (await over(connection, server.url, in_buffer(SMALL))).status == 200
        with pytest.raises(StaleConnection):
            await over(connection, server.url, body, by_event)
        pool.release(server.url, connection)
        assert body.pours == 0
        fresh = await pool.acquire(server.url)
        with pytest.raises(OSError) as failed:
            await over(fresh, server.url, body, by_event)
        pool.release(server.url, fresh)
        assert not isinstance(failed.value, StaleConnection), "it is the first request of this one"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", FetchRefused),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort", SourceTruncated),
        (b"HTTP/1.1 200", ConnectionError),
        (b"", ConnectionError),
    ],
)
async def test_answers_that_are_none(
    pool: ConnectionPool, tls: ssl.SSLContext | None, answer: bytes, error: type[Exception]
) -> None:
    async def say(exchange: Exchange) -> bool:
        await exchange.body()
        await exchange.say(answer)
        return False

    async with serving(say, tls) as server:
        with pytest.raises(error):
            await uploaded(pool, server.url, in_buffer(SMALL))


async def test_an_idle_connection_is_closed_after_its_time(trusting: ssl.SSLContext, sockets_end: None) -> None:
    dialer = Dialer(ThreadedResolver(), plain, tls=trusting, seconds=10)
    pool = ConnectionPool(dialer.connect, idle_seconds=0.05)
    async with serving(take_all, None) as server:
        assert (await uploaded(pool, server.url, in_buffer(SMALL))).status == 200
        await server.end.wait()
        assert (await uploaded(pool, server.url, in_buffer(SMALL))).status == 200
        assert server.connections == 2
        pool.close()
        used = await pool.acquire(server.url)
        assert (await over(used, server.url, in_buffer(SMALL))).status == 200
        server.end.clear()
        pool.release(server.url, used)
        await server.end.wait()


def test_contexts_of_ours_do_not_renegotiate() -> None:
    assert default_tls().options & ssl.OP_NO_RENEGOTIATION
