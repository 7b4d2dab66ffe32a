"""A body as the libraries below want it: a file for botocore, a payload for aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from mediagen.core.errors import FetchFailed
from mediagen.storage.s3.payload import BodyPayload
from mediagen.streams.base import KIB, MIB, Body
from mediagen.streams.parts import BufferBody, RangeBody
from tests.contracts.uploads import BytesReader, Readings, cancelled, the_bytes
from tests.streams.targets import THREADS

SIZE = 6 * MIB + 12_345


class Writer(AbstractStreamWriter):
    """What aiohttp gives to a payload."""

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.chunks: list[bytes] = []
        self._gate = gate

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        assert isinstance(chunk, bytes), "a view is used again while the transport may still keep it"
        self.chunks.append(chunk)
        if self._gate is not None:
            await self._gate.wait()

    async def write_eof(self, chunk: bytes = b"") -> None: ...
    async def drain(self) -> None: ...
    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None: ...
    def enable_chunking(self) -> None: ...
    async def write_headers(self, status_line: str, headers: object) -> None: ...


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[str, list[bytes], set[object]]]:
    """A server for PUTs: its URL, the bodies that came and the connections over which they did."""
    bodies: list[bytes] = []
    connections: set[object] = set()

    async def take(request: web.Request) -> web.Response:
        connections.add(request.transport)
        bodies.append(await request.read())
        return web.Response()

    app = web.Application(client_max_size=64 * MIB)
    app.router.add_put("/", take)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/", bodies, connections
    finally:
        await runner.cleanup()


def body_of(lane: str, data: bytes, reader: BytesReader | None = None) -> Body:
    if lane == "buffer":
        return BufferBody(memoryview(data), threads=THREADS)
    return RangeBody(reader or BytesReader(data), 0, len(data), meter=Readings(None).meter, threads=THREADS)


async def put(session: aiohttp.ClientSession, url: str, body: Body) -> int:
    payload = BodyPayload(body)
    headers = {"Content-Length": str(len(body)), "Expect": "100-continue"}
    async with session.put(url, data=payload, headers=headers) as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize("lane", ["buffer", "range"])
@pytest.mark.parametrize("size", [0, 1, 64 * KIB, 64 * KIB + 1, 512 * KIB, MIB + 1, SIZE])
async def test_a_body_arrives_whole_over_one_connection(lane: str, size: int) -> None:
    data = the_bytes(size)

    async with receiving() as (url, bodies, connections), aiohttp.ClientSession() as session:
        for _ in range(3):
            assert await put(session, url, body_of(lane, data)) == 200

        assert bodies == [data] * 3
        # of an empty body the answer may be there before aiohttp knows that its request has left
        assert len(connections) == 1 or size == 0, "a connection is used again"


async def test_a_body_is_written_anew_as_often_as_it_is_sent() -> None:
    data = the_bytes(SIZE)
    body = body_of("range", data)

    async with receiving() as (url, bodies, _), aiohttp.ClientSession() as session:
        for _ in range(2):
            assert await put(session, url, body) == 200

    assert bodies == [data] * 2


async def test_an_answer_before_the_end_of_the_body_ends_the_request() -> None:
    body = body_of("range", the_bytes(32 * MIB))
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(256 * KIB)
        writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while await reader.read(MIB):
                pass
        writer.close()
        ended.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, aiohttp.ClientSession() as session:
        host, port = server.sockets[0].getsockname()
        assert await put(session, f"http://{host}:{port}/", body) == 503
        async with asyncio.timeout(5):
            await ended.wait()
    await body.stop()  # type: ignore[attr-defined]  # a range body


async def test_a_request_that_broke_is_not_sent_again_behind_our_back() -> None:
    seen = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while head := await reader.readuntil(b"\r\n\r\n"):
            assert head.startswith(b"PUT")
            await reader.readexactly(1000)
            seen += 1
            if seen == 2:
                break
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, aiohttp.ClientSession() as session:
        url = "http://{}:{}/".format(*server.sockets[0].getsockname())
        for expected in (1, 2):
            payload = BodyPayload(BufferBody(memoryview(bytes(1000))))
            with contextlib.nullcontext() if expected == 1 else pytest.raises(aiohttp.ServerDisconnectedError):
                async with session.put(url, data=payload, headers={"Content-Length": "1000"}) as reply:
                    await reply.read()
            assert seen == expected


async def test_a_cancelled_upload_waits_for_the_thread_that_serves_it() -> None:
    """Nothing may be closed, or used again, under a thread that is at work with it."""
    data = the_bytes(SIZE)
    inside, go_on = threading.Event(), threading.Event()

    class Slow(BytesReader):
        def try_read(self, buffer: memoryview, /, *, within: float) -> int:
            inside.set()
            assert go_on.wait(20)
            return super().try_read(buffer, within=within)

    body = body_of("range", data, Slow(data))
    async with receiving() as (url, _, _), aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        work = group.create_task(put(session, url, body))
        await asyncio.to_thread(inside.wait, 20)
        await cancelled(work)
        stopping = group.create_task(body.stop())  # type: ignore[attr-defined]  # a range body
        await asyncio.sleep(0.01)
        assert not stopping.done()
        go_on.set()
    with pytest.raises(RuntimeError):
        _ = body.crc32


async def test_what_stops_the_source_is_kept() -> None:
    payload = BodyPayload(body_of("range", b"x" * 100, BytesReader(b"x" * 100, fail_at=50)))

    with pytest.raises(FetchFailed):
        await payload.write(Writer())

    assert isinstance(payload.failure, FetchFailed)


async def test_what_stops_the_store_is_not_the_sources_failure() -> None:
    class Broken(Writer):
        async def write(self, chunk: bytes | bytearray | memoryview) -> None:
            raise ConnectionResetError

    payload = BodyPayload(body_of("range", b"x" * 100))

    with pytest.raises(ConnectionResetError):
        await payload.write(Broken())

    assert payload.failure is None


async def test_waiting_for_the_source_is_told_from_waiting_for_the_store() -> None:
    reader, gate = BytesReader(b"x" * 100, stall_at=50), asyncio.Event()
    payload, writer = BodyPayload(body_of("range", b"x" * 100, reader)), Writer(gate)

    async with asyncio.TaskGroup() as group:
        work = group.create_task(payload.write(writer))
        while not writer.chunks:
            await asyncio.sleep(0)
        before = payload.waited
        await asyncio.sleep(0.05)
        assert payload.waited == before, "it waits for the store"
        gate.set()
        await reader.stalled.wait()
        await asyncio.sleep(0.05)
        assert payload.waited >= before + 0.04, "it waits for the source"
        reader.release.set()
        await work

    assert b"".join(writer.chunks) == b"x" * 100


async def test_a_payload_is_a_seekable_file() -> None:
    payload = BodyPayload(BufferBody(memoryview(b"0123456789")))

    assert (len(payload), payload.size) == (10, 10)
    assert (payload.seek(3), payload.tell(), payload.read(4), payload.read()) == (3, 3, b"3456", b"789")
    assert (payload.tell(), payload.seek(-2, 2), payload.seek(1, 1), payload.read()) == (10, 8, 9, b"9")
    with pytest.raises(TypeError):
        payload.decode()


async def test_a_payload_that_was_released_keeps_nothing() -> None:
    buffer = bytearray(100)
    view = memoryview(buffer)
    payload = BodyPayload(BufferBody(view))

    payload.release()
    view.release()

    buffer.clear()  # raises BufferError while somebody looks at it
