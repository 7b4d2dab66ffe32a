"""Bodies of requests as sources, over real connections: what goes past aiohttp, and the connection afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
from aiohttp import web

from mediagen.core.errors import InvalidRequest, MediagenError
from mediagen.streams.base import MIB, Source
from mediagen.streams.serial_executor import SerialExecutor
from mediagen.web.http.body import BodyLimits
from mediagen.web.http.body_source import Incoming, incoming
from mediagen.web.http.problems import BodyStalled
from tests.contracts.source import SourceContract
from tests.infra.content import content_bytes, crc32_of, sha256_of
from tests.web.conftest import House, Start

Handler: TypeAlias = Callable[[web.Request], Coroutine[Any, Any, web.Response]]

GET = b"GET /v1/files HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[int]:
    """A port where aiohttp answers with ``handler``."""
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=1, lingering_time=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield site.port
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def head(size: int, *lines: str) -> bytes:
    fields = ("Host: localhost", f"Content-Length: {size}", *lines)
    return "\r\n".join(("POST /v1/files HTTP/1.1", *fields, "", "")).encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of the next answer on the connection."""
    async with asyncio.timeout(10):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        length = next(int(line[16:]) for line in lines if line.lower().startswith("content-length: "))
        return int(lines[0].split()[1]), await reader.readexactly(length)


async def read_all(body: Source, step: int = MIB) -> bytes:
    buffer, out = memoryview(bytearray(step)), bytearray()
    while count := await body.read_into(buffer):
        out += buffer[:count]
    return bytes(out)


class TestIncoming(SourceContract):
    """Small enough to stay with aiohttp."""

    knows_its_size = True
    announced = True

    @asynccontextmanager
    async def opened(self, data: bytes) -> AsyncIterator[Source]:
        opened: asyncio.Future[Incoming] = asyncio.get_running_loop().create_future()
        done = asyncio.Event()

        async def handler(request: web.Request) -> web.Response:
            with incoming(request, BodyLimits(MIB, 10, 0)) as body:
                opened.set_result(body)
                await done.wait()
            return web.Response()

        async with served(handler) as port, connection(port) as (_, writer), asyncio.TaskGroup() as group:
            writer.write(head(len(data)) if self.announced else _chunked_head())
            group.create_task(self.send(writer, data))
            try:
                yield await opened
            finally:
                done.set()

    async def send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for start in range(0, len(data), 77_777):
            piece = data[start : start + 77_777]
            writer.write(piece if self.announced else b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0)
        if not self.announced:
            writer.write(b"0\r\n\r\n")


class TestChunked(TestIncoming):
    knows_its_size = False
    announced = False


class TestPastAiohttp(TestIncoming):
    @pytest.fixture(autouse=True)
    def however_small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mediagen.web.http.body_source._WORTH", 1)


def _chunked_head() -> bytes:
    return b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_thread_takes_what_is_there_and_no_more_than_the_body() -> None:
    """Were this not so, large uploads would be slow, and nothing else would tell.

    Nor more at a stretch than aiohttp can be told of without a stall.
    """
    size, taken = 30 * MIB, []

    async def handler(request: web.Request) -> web.Response:
        with incoming(request, BodyLimits(MIB, 10, 0)) as body, ThreadPoolExecutor(1) as threads:
            buffer, data, executor = memoryview(bytearray(size)), bytearray(), SerialExecutor(threads)
            while count := await body.read_into(buffer):
                data += buffer[:count]
                stretch = 0
                while count := await executor.run(lambda: body.try_read(buffer[:MIB], within=0.1)):
                    data += buffer[:count]
                    stretch += count
                taken.append(stretch)
        return web.Response(text=str(bytes(data) == content_bytes(size)))

    async with served(handler) as port, connection(port) as (reader, writer):
        for _ in range(2):
            writer.write(head(size) + content_bytes(size) + head(3) + b"abc")
            assert await answer(reader) == (200, b"True")
            assert await answer(reader) == (200, b"False")
    assert sum(taken) > size
    assert max(taken) <= 9 * MIB


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 1, 5 * MIB + 7])
@pytest.mark.parametrize("step", [1000, MIB, 8 * MIB])
@pytest.mark.parametrize("together", [True, False])
async def test_what_comes_behind_a_body_is_the_next_request(size: int, step: int, together: bool) -> None:
    bodies: list[bytes] = []

    async def handler(request: web.Request) -> web.Response:
        with incoming(request, BodyLimits(MIB, 10, 0)) as body:
            bodies.append(await read_all(body, step))
        return web.Response(text=str(len(bodies)))

    data = content_bytes(size)
    async with served(handler) as port, connection(port) as (reader, writer):
        if together:
            writer.write((head(size) + data + GET) * 2)
        for number in (1, 3):
            if not together:
                writer.write(head(size) + data)
            assert await answer(reader) == (200, str(number).encode())
            if not together:
                writer.write(GET)
            assert await answer(reader) == (200, str(number + 1).encode())
    assert bodies == [data, b"", data, b""]


@pytest.mark.parametrize("read", [0, 1, MIB, 3 * MIB])
async def test_a_body_that_was_not_read_to_its_end_is_read_over(read: int) -> None:
    """As aiohttp does for a while after the answer, so that a client that only sends comes to see it."""
    size = 4 * MIB

    async def handler(request: web.Request) -> web.Response:
        with incoming(request, BodyLimits(MIB, 10, 0)) as body:
            left, buffer = read, memoryview(bytearray(MIB))
            while left and (count := await body.read_into(buffer[:left])):
                left -= count
        return web.Response(text="enough")

    async with served(handler) as port, connection(port) as (reader, writer):
        writer.write(head(size) + content_bytes(size) + GET)
        assert await answer(reader) == (200, b"enough")
        assert await answer(reader) == (200, b"enough")


async def _failing(send: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]], idle: float) -> MediagenError:
    """What reading a body of 3 MiB fails with when the client does ``send`` instead of sending it."""
    failure: asyncio.Future[MediagenError] = asyncio.get_running_loop().create_future()

    async def handler(request: web.Request) -> web.Response:
        with incoming(request, BodyLimits(MIB, idle, 0)) as body:
            try:
                await read_all(body)
            except MediagenError as exc:
                failure.set_result(exc)
        return web.Response()

    async with served(handler) as port, connection(port) as (_, writer):
        writer.write(head(3 * MIB) + content_bytes(2 * MIB))
        await writer.drain()
        await send(writer)
        async with asyncio.timeout(10):
            return await failure


async def test_a_client_that_goes_away() -> None:
    async def leave(writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def reset(writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def half_close(writer: asyncio.StreamWriter) -> None:
        writer.write_eof()

    for way in (leave, reset, half_close):
        assert isinstance(await _failing(way, 10), InvalidRequest), way


async def test_a_client_that_stops_sending() -> None:
    async def nothing(_: asyncio.StreamWriter) -> None:
        pass

    assert isinstance(await _failing(nothing, 0.2), BodyStalled)


async def test_a_read_that_was_cancelled_loses_nothing() -> None:
    size = 3 * MIB
    data = content_bytes(size)
    waiting = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        with incoming(request, BodyLimits(MIB, 10, 0)) as body:
            buffer, out = memoryview(bytearray(MIB)), bytearray()
            while len(out) < size:
                try:
                    async with asyncio.timeout(0.05):
                        count = await body.read_into(buffer)
                except TimeoutError:
                    waiting.set()
                else:
                    out += buffer[:count]
        return web.Response(text=str(bytes(out) == data))

    async with served(handler) as port, connection(port) as (reader, writer):
        sent = 0
        writer.write(head(size))
        for upto in (10, 1_500_000, 2_500_000, size):
            writer.write(data[sent:upto])
            sent = upto
            async with asyncio.timeout(10):
                await (waiting.wait() if upto < size else writer.drain())
            waiting.clear()
        assert await answer(reader) == (200, b"True")


# -- through the whole server


FORM = "Content-Type: multipart/form-data; boundary=frontier"
JSON = "Content-Type: application/json"
PART = b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
LAST = b"\r\n--frontier--\r\n"
SIZE = 9 * MIB + 5


def bodies() -> dict[str, tuple[str, bytes]]:
    data = content_bytes(SIZE)
    return {"raw": ("X-Filename: a", data), "form": (FORM, PART + data + LAST)}


@pytest.mark.parametrize("kind", ["raw", "form"])
@pytest.mark.parametrize("together", [True, False])
async def test_uploads_one_after_another_on_one_connection(house: House, kind: str, together: bool) -> None:
    line, body = bodies()[kind]

    async with connection(house.instance.port) as (reader, writer):
        for number in range(1, 4):
            writer.write(head(len(body), line) + body + (GET if together else b""))
            status, file = await answer(reader)
            assert status == 201, file
            assert json.loads(file)["checksum"]["value"] == f"{crc32_of(SIZE):08x}"
            assert json.loads(file)["sha256"] in {None, sha256_of(SIZE)}
            if not together:
                writer.write(GET)
            status, files = await answer(reader)
            assert (status, len(json.loads(files)["data"])) == (200, number)


@pytest.mark.parametrize("kind", ["raw", "form"])
async def test_too_much_in_the_middle_is_told_to_a_client_that_only_sends(start: Start, kind: str) -> None:
    house = await start(limits={"image_bytes": 3 * MIB, "video_bytes": 50 * MIB, "file_bytes": 50 * MIB})
    png = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes(SIZE)
    line, body = ("X-Filename: a", png) if kind == "raw" else (FORM, PART + png + LAST)

    async with connection(house.instance.port) as (reader, writer):
        writer.write(head(len(body), line) + body)
        status, problem = await answer(reader)
        assert (status, json.loads(problem)["code"]) == (413, "too_large")
        assert await reader.read() == b""
    assert (await house.ask("GET", "/v1/files"))[1]["data"] == []
