"""The same bodies over TLS, in the event loop and in byte threads."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.errors import FetchFailed, SourceStalled, SourceTruncated
from mediagen.net.download import Fetcher
from mediagen.streams.base import KIB, MIB, Source
from mediagen.streams.digest import InlineSha256, crc32
from mediagen.streams.parts import RangeBody
from mediagen.streams.pool import BufferPool
from mediagen.streams.scratch import ScratchBuffer
from mediagen.streams.streamed_body import BUFFER, StreamedBody
from tests.contracts.uploads import Readings
from tests.infra.content import content_bytes
from tests.infra.resource import Break, Resource
from tests.infra.servers.source import SourceServer
from tests.net.conftest import OpenFetcher

SIZE = 5 * MIB + 123
WHOLE = content_bytes(SIZE, 1)


@pytest.fixture
async def fetcher(open_fetcher: OpenFetcher, trusting: ssl.SSLContext) -> AsyncIterator[Fetcher]:
    async with open_fetcher(tls=trusting) as fetcher:
        yield fetcher


def film(**changes: Any) -> Resource:
    return Resource(**{"size": SIZE, "seed": 1, **changes})


async def drained(source: Source, *, step: int = 256 * KIB, pause: float = 0) -> bytes:
    out, buffer = bytearray(), memoryview(bytearray(step))
    while count := await source.read_into(buffer):
        out += buffer[:count]
        if pause:
            await asyncio.sleep(pause)
    return bytes(out)


async def downloaded(fetcher: Fetcher, url: str, *, step: int = 256 * KIB, pause: float = 0) -> bytes:
    async with fetcher.open(url) as download:
        return await drained(download.sequential(), step=step, pause=pause)


@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
@pytest.mark.parametrize("step", [1000, 256 * KIB, 8 * MIB])
@pytest.mark.parametrize("ranges", ["yes", "no"])
async def test_a_body_arrives_whole(
    fetcher: Fetcher, tls_source: SourceServer, framing: Any, step: int, ranges: Any
) -> None:
    url = tls_source.add("/x", film(framing=framing, ranges=ranges))

    assert await downloaded(fetcher, url, step=step) == WHOLE
    assert len(tls_source.log) == 1


@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
@pytest.mark.parametrize("size", [5000, 100_000, 400_000, 3_000_000])
async def test_a_reader_slower_than_the_source_gets_all_though_the_source_has_gone(
    fetcher: Fetcher, tls_source: SourceServer, framing: Any, size: int
) -> None:
    """The connection may have ended while its last bytes wait to be read."""
    url = tls_source.add("/x", film(size=size, framing=framing, ranges="no", headers={"Connection": "close"}))

    async with fetcher.open(url) as download:
        await asyncio.sleep(0.05)
        assert await drained(download.sequential(), step=20_000, pause=0.0005) == content_bytes(size, 1)


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 70_000])
@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
async def test_small_bodies(fetcher: Fetcher, tls_source: SourceServer, framing: Any, size: int) -> None:
    url = tls_source.add("/x", film(size=size, framing=framing))

    assert await downloaded(fetcher, url) == content_bytes(size, 1)


async def test_reading_stops_while_nobody_reads(fetcher: Fetcher, tls_source: SourceServer) -> None:
    url = tls_source.add("/x", Resource(size=64 * MIB))

    async with fetcher.open(url) as download:
        source, buffer = download.sequential(), memoryview(bytearray(256 * KIB))
        for _ in range(4):
            await source.read_into(buffer)
        before = -1
        while before != tls_source.sent("/x"):
            before = tls_source.sent("/x")
            await asyncio.sleep(0.1)

    assert before < 32 * MIB  # what the kernel's buffers hold


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("after", [0, 1, 4096, 2_000_000, SIZE - 1])
async def test_a_cut_body_is_never_taken_for_a_whole_one(
    open_fetcher: OpenFetcher, trusting: ssl.SSLContext, tls_source: SourceServer, how: Any, framing: Any, after: int
) -> None:
    url = tls_source.add("/x", film(framing=framing, ranges="no", breaks=[Break(after, how=how)]))

    async with open_fetcher(tls=trusting, attempts=1) as fetcher:
        with pytest.raises(FetchFailed):
            await downloaded(fetcher, url)


@pytest.mark.parametrize("after", [1, 4096, 300_000, 2_000_000])
async def test_a_reset_ends_no_body_though_its_end_is_that_of_the_connection(
    open_fetcher: OpenFetcher, trusting: ssl.SSLContext, tls_source: SourceServer, after: int
) -> None:
    url = tls_source.add("/x", film(framing="close", ranges="no", breaks=[Break(after, how="rst")]))

    async with open_fetcher(tls=trusting, attempts=1) as fetcher:
        with pytest.raises(FetchFailed):
            await downloaded(fetcher, url)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("after", [0, 1, 5000, 2_000_000])
async def test_a_cut_body_is_resumed(fetcher: Fetcher, tls_source: SourceServer, how: Any, after: int) -> None:
    url = tls_source.add("/x", film(breaks=[Break(after, how=how, times=2)]))

    assert await downloaded(fetcher, url) == WHOLE


@pytest.mark.parametrize("after", [10, 300_000])
async def test_silence_is_its_own_error(
    open_fetcher: OpenFetcher, trusting: ssl.SSLContext, tls_source: SourceServer, after: int
) -> None:
    url = tls_source.add("/x", film(ranges="no", breaks=[Break(after, how="stall")]))

    async with open_fetcher(tls=trusting, stall_seconds=0.1, attempts=1) as fetcher:
        with pytest.raises(SourceStalled):
            await downloaded(fetcher, url)


async def test_a_slow_drip_is_no_silence(
    open_fetcher: OpenFetcher, trusting: ssl.SSLContext, tls_source: SourceServer
) -> None:
    url = tls_source.add("/x", film(size=90, rate=100, ranges="no"))

    async with open_fetcher(tls=trusting, stall_seconds=0.7) as fetcher:
        assert await downloaded(fetcher, url) == content_bytes(90, 1)


@pytest.mark.parametrize("after", [0, 100_000])
async def test_a_download_left_in_the_middle_leaves_nothing(
    fetcher: Fetcher, tls_source: SourceServer, after: int
) -> None:
    url = tls_source.add("/x", film(breaks=[Break(MIB, how="stall")]))

    async with fetcher.open(url) as download:
        if after:
            await download.sequential().read_into(memoryview(bytearray(after)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await downloaded(fetcher, url)

    await tls_source.log.reaches(lambda log: all(request.ended for request in log))


class Counting:
    """A target that takes everything and remembers it."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.offered = 0
        self.enough = asyncio.Event()

    async def write(self, view: memoryview, /) -> None:
        self.got += view
        if len(self.got) >= MIB:
            self.enough.set()

    def try_write(self, view: memoryview, /, *, within: float) -> int:
        self.got += view
        self.offered += len(view)
        return len(view)


async def test_byte_threads_carry_a_part(fetcher: Fetcher, tls_source: SourceServer) -> None:
    url = tls_source.add("/x", film())
    target = Counting()

    with ThreadPoolExecutor(2) as threads:
        async with fetcher.open(url) as download:
            reader = download.open_reader()
            part = RangeBody(reader, 1000, SIZE - 2000, meter=Readings(None).meter, threads=threads)
            await part.write_to(target)
            await reader.aclose()

    assert target.got == WHOLE[1000 : SIZE - 1000]
    assert target.offered > 0
    assert part.crc32 == crc32(target.got)


@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
async def test_byte_threads_carry_a_body_of_any_framing(
    fetcher: Fetcher, tls_source: SourceServer, framing: Any
) -> None:
    url = tls_source.add("/x", film(framing=framing, ranges="no"))
    target = Counting()

    with ThreadPoolExecutor(2) as threads:
        async with fetcher.open(url) as download, ScratchBuffer(BufferPool(MIB), BUFFER) as scratch:
            source, meter, sha256 = download.sequential(), Readings(None).meter, InlineSha256("always")
            body = StreamedBody(source, scratch, meter=meter, threads=threads, sha256=sha256)
            await body.write_to(target)

    assert target.got == WHOLE
    assert sha256.hexdigest() == hashlib.sha256(WHOLE).hexdigest()


async def test_a_part_that_is_cancelled_in_the_middle_leaves_nothing(
    fetcher: Fetcher, tls_source: SourceServer
) -> None:
    url = tls_source.add("/x", Resource(size=256 * MIB))
    target = Counting()

    with ThreadPoolExecutor(2) as threads:
        async with fetcher.open(url) as download:
            reader = download.open_reader()
            part = RangeBody(reader, 0, 256 * MIB, meter=Readings(None).meter, threads=threads)
            async with asyncio.TaskGroup() as group:
                pouring = group.create_task(part.write_to(target))
                await target.enough.wait()
                pouring.cancel()
            await reader.aclose()

    assert MIB <= len(target.got) < 256 * MIB
    await tls_source.log.reaches(lambda log: all(request.ended for request in log))


class Abrupt:
    """A server that gives one answer over TLS and closes its socket at once, with or without TLS's farewell."""

    def __init__(self, certificate: Path, *, head: bytes, size: int, farewell: bool) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate)
        self._answer = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + WHOLE[:size]
        self._farewell = farewell

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(self._serve, listener))
                yield f"https://127.0.0.1:{listener.getsockname()[1]}/"

    def _serve(self, listener: socket.socket) -> None:
        raw, _ = listener.accept()
        with raw, self._context.wrap_socket(raw, server_side=True) as client:
            while not client.recv(65_536).endswith(b"\r\n\r\n"):
                pass
            client.sendall(self._answer)
            if self._farewell:
                client.setblocking(False)
                with suppress(ssl.SSLWantReadError):
                    client.unwrap()
            socket.socket.shutdown(client, socket.SHUT_WR)
            client.setblocking(True)
            with suppress(OSError):
                while socket.socket.recv(client, 65_536):
                    pass


@pytest.mark.parametrize("size", [3000, 100_000, 250_000, 700_000])
@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("head", "farewell", "whole"),
    [
        ("Connection: close", True, True),
        ("Connection: close", False, False),
        ("Content-Length: {}", True, True),
        ("Content-Length: {}", False, True),
    ],
)
async def test_a_connection_that_has_ended_gives_up_all_that_it_brought(
    open_fetcher: OpenFetcher,
    trusting: ssl.SSLContext,
    certificate: Path,
    head: str,
    farewell: bool,
    whole: bool,
    slow: bool,
    size: int,
) -> None:
    """Without a length only TLS's closing alert makes it whole; TCP's end can come from anybody (RFC 9112, 9.8)."""
    server = Abrupt(certificate, head=head.format(size).encode(), size=size, farewell=farewell)

    async with server.listening() as url, open_fetcher(tls=trusting, attempts=1) as fetcher:
        try:
            async with fetcher.open(url) as download:
                if slow:
                    await asyncio.sleep(0.05)
                got = await drained(download.sequential(), step=20_000 if slow else MIB, pause=0.0005 if slow else 0)
        except SourceTruncated:
            assert not whole
        else:
            assert whole
            assert got == WHOLE[:size]
