"""Connections: how many, how long each may keep us waiting, and what is said to those that are too many."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mediagen.web.http.connection_limits import MAX_HEAD, MOST, Door, most_connections
from mediagen.web.http.forwarded import Forwarded
from mediagen.web.settings import ServerSettings
from tests.web.conftest import House, Start

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
LONG, SHORT = 30.0, 0.3


@asynccontextmanager
async def connection(house: House, sock: socket.socket | None = None) -> AsyncIterator[Wire]:
    if sock is None:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.instance.port)
    else:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", house.instance.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=2048)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


class Wire:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, rest: bytes = b"\r\n") -> bytes:
        """The head of the answer to a GET; its body is read over."""
        self.writer.write(GET + rest)
        return await self.answer()

    async def answer(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        if length := re.search(rb"Content-Length: (\d+)", head):
            await self.reader.readexactly(int(length[1]))
        return head

    async def drip(self, data: bytes, spacing: float = 0.05) -> None:
        """Send ``data`` slowly, until the other side has had enough."""
        for byte in data:
            self.writer.write(bytes((byte,)))
            await asyncio.sleep(spacing)
            if self.reader.at_eof() or self.writer.is_closing():
                return

    async def ends(self, within: float = 5.0) -> bytes:
        """All that still comes, until the other side ends it."""
        async with asyncio.timeout(within):
            try:
                return await self.reader.read(-1)
            except ConnectionResetError:
                return b""


async def metric(house: House, name: str) -> float:
    async with house.client.get(f"{house.url}/metrics") as answer:
        found = re.search(rf"^{re.escape(name)} (\S+)$", await answer.text(), re.MULTILINE)
    return float(found[1]) if found else 0.0


# -- heads


async def test_a_silent_connection_is_ended(start: Start) -> None:
    house = await start(server={"header_seconds": SHORT, "keepalive_seconds": LONG})

    async with connection(house) as wire:
        assert await wire.ends() == b""

    assert await metric(house, 'mediagen_connections_cut_total{waited_for="head"}') == 1


async def test_a_head_that_drips_is_ended(start: Start) -> None:
    house = await start(server={"header_seconds": SHORT, "keepalive_seconds": LONG})

    async with connection(house) as wire:
        await wire.drip(GET + b"X-A: b\r\n" * 100)
        assert await wire.ends() == b""


async def test_the_head_of_a_later_request_has_as_long(start: Start) -> None:
    house = await start(server={"header_seconds": SHORT, "keepalive_seconds": LONG})

    async with connection(house) as wire:
        assert b" 200 " in await wire.ask()
        await asyncio.sleep(2 * SHORT)  # an idle connection is another matter
        assert b" 200 " in await wire.ask()
        await wire.drip(GET + b"X-A: b\r\n" * 100)
        assert await wire.ends() == b""


async def test_a_connection_that_idles_is_ended(start: Start) -> None:
    house = await start(server={"header_seconds": LONG, "keepalive_seconds": SHORT})

    async with connection(house) as wire:
        await wire.drip(GET + b"\r\n", 0.02)  # longer than a connection may idle
        assert b" 200 " in await wire.answer()
        assert await wire.ends() == b""

    assert await metric(house, 'mediagen_connections_cut_total{waited_for="idle"}') == 1


@pytest.mark.parametrize("whole", [False, True])
async def test_a_head_has_a_length(house: House, whole: bool) -> None:
    field = b"X-A: " + b"b" * 8000 + b"\r\n"

    async with connection(house) as wire:
        assert b" 200 " in await wire.ask(field * 7 + b"\r\n")
        wire.writer.write(GET + field * (MAX_HEAD // len(field) + 1) + (b"\r\n" if whole else b""))
        answer = await wire.ends()

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"Connection: close\r\n" in answer


async def test_requests_may_come_together_and_in_pieces(house: House) -> None:
    async with connection(house) as wire:
        wire.writer.write(b"\r\n" + (GET + b"\r\n") * 4 + GET[:9])
        for _ in range(4):
            assert b" 200 " in await wire.answer()
        wire.writer.write(GET[9:] + b"\r")
        await asyncio.sleep(0.01)
        wire.writer.write(b"\n")
        assert b" 200 " in await wire.answer()


UPLOAD = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nX-Filename: a.bin\r\n"


@pytest.mark.parametrize("before", [1, 3, 40])
@pytest.mark.parametrize("chunked", [False, True])
async def test_requests_may_stand_before_a_large_body(house: House, before: int, chunked: bool) -> None:
    """Their body is not taken for a head, however the bytes happen to arrive."""
    content = bytes(range(256)) * 4096 * 2  # two MiB without a line end that ends a head
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if chunked else content
    framing = b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % len(content)

    for spacing in (0, 0.001):
        async with connection(house) as wire:
            wire.writer.write((GET + b"\r\n") * before + UPLOAD + framing)
            wire.writer.write(framed[:300_000])
            await asyncio.sleep(spacing)
            wire.writer.write(framed[300_000:] + GET + b"\r\n")
            answers = [await wire.answer() for _ in range(before + 2)]

        assert [answer.split(b" ")[1] for answer in answers] == [b"200"] * before + [b"201", b"200"]


async def test_a_head_that_is_too_long_is_refused_behind_the_answers_before_it(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal stands in the middle of no other answer, and nothing is written behind it."""
    house = await start(server={"keepalive_seconds": SHORT})
    field = b"X-A: " + b"b" * 8000 + b"\r\n"

    for milliseconds in range(12):
        async with connection(house) as wire:
            wire.writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 6)
            await asyncio.sleep(milliseconds / 1000)
            wire.writer.write(GET + field * 40)
            answers = [(await wire.answer()).split(b" ")[1] for _ in range(6)]
            rest = await wire.ends()

        assert answers == [b"200"] * 6
        assert rest == b"" or rest.startswith(b"HTTP/1.1 431 ")

    assert "Unhandled" not in caplog.text
    assert "write_eof" not in caplog.text


async def test_a_whole_head_that_is_too_long_is_refused_wherever_it_stands(house: House) -> None:
    field = b"X-A: " + b"b" * 8000 + b"\r\n"
    long = GET + field * (MAX_HEAD // len(field) + 1) + b"\r\n"

    async with connection(house) as wire:
        wire.writer.write((GET + b"\r\n") * 3 + long + GET + b"\r\n")
        answers = [(await wire.answer()).split(b" ")[1] for _ in range(4)]

    assert answers == [b"200", b"200", b"200", b"431"]
    assert await metric(house, 'mediagen_connections_refused_total{reason="head"}') == 1


# -- readers


def _narrow() -> socket.socket:
    """A socket that takes little at a time."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    return sock


async def test_a_reader_that_never_reads_is_cut_off(start: Start) -> None:
    house = await start(server={"body_idle_seconds": SHORT})

    async with connection(house, _narrow()) as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        wire.writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        async with asyncio.timeout(10):
            while not await metric(house, 'mediagen_connections_cut_total{waited_for="reader"}'):
                await asyncio.sleep(0.05)

        assert await metric(house, "mediagen_connections") == 1  # the one that asks


async def test_a_slow_reader_gets_all(start: Start) -> None:
    house = await start(server={"body_idle_seconds": SHORT, "keepalive_seconds": SHORT})
    async with house.client.get(f"{house.url}/openapi.json") as answer:
        size = len(await answer.read())

    async with connection(house, _narrow()) as wire:
        wire.writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 30)
        got = 0
        while got < size * 30:
            chunk = await wire.reader.read(256 * 1024)
            assert chunk, got
            got += len(chunk)
            await asyncio.sleep(0.001)


# -- how many


async def test_one_connection_too_many_is_told_so(start: Start) -> None:
    house = await start(server={"max_connections": 2})

    async with connection(house) as first, connection(house) as second:
        assert b" 200 " in await first.ask()
        assert b" 200 " in await second.ask()
        async with connection(house) as third:
            third.writer.write(GET + b"\r\n")
            answer = await third.ends()
        assert b" 200 " in await first.ask()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert re.search(rb"\r\nRetry-After: \d+\r\n", answer)
    assert b"Connection: close\r\n" in answer
    assert b'"code": "unavailable"' in answer
    async with asyncio.timeout(5):
        while (await house.ask("GET", "/livez"))[0] != 200:
            await asyncio.sleep(0.01)
    assert await metric(house, 'mediagen_connections_refused_total{reason="full"}') >= 1


async def test_one_address_may_not_take_them_all(start: Start) -> None:
    house = await start(server={"max_connections_per_ip": 1})

    async with connection(house) as first:
        assert b" 200 " in await first.ask()
        async with connection(house) as second:
            second.writer.write(GET + b"\r\n")
            assert (await second.ends()).startswith(b"HTTP/1.1 429 ")


async def test_a_proxy_may(start: Start) -> None:
    house = await start(server={"max_connections_per_ip": 1, "trusted_proxies": ["127.0.0.1"]})

    async with connection(house) as first, connection(house) as second:
        assert b" 200 " in await first.ask()
        assert b" 200 " in await second.ask()


async def test_who_is_refused_and_says_nothing_is_soon_gone(start: Start) -> None:
    house = await start(server={"max_connections": 1})

    async with connection(house), connection(house) as second:
        assert await second.ends() == b""


def _door(open_files: int, **settings: object) -> Door:
    server = ServerSettings(**settings)
    return Door(server, Forwarded(server), open_files=open_files)


@pytest.mark.parametrize(("files", "most"), [(128, 32), (1024, 480), (1_000_000, MOST), (10, 16), (-1, MOST)])
def test_the_number_of_files_says_how_many(files: int, most: int) -> None:
    assert most_connections(files) == most
    assert _door(files).most == most


def test_half_of_them_are_for_one_network() -> None:
    door = _door(128, host="0.0.0.0")

    entered = [door.enter(f"2001:db8::{number}") for number in range(17)]

    assert entered == [None] * 16 + ["address"]
    assert door.enter("2001:db8:1::1") is None
    door.leave("2001:db8::5")
    assert door.enter("2001:db8::99") is None
    assert _door(128, host="127.0.0.1").most_each == 32
