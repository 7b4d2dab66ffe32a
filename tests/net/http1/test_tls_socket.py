"""TLS made in memory, against the TLS of the standard library and of OpenSSL's own server."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from mediagen.net.http1.dialer import AddressInfo, Dialer, configure_for_http1
from mediagen.net.http1.raw_socket import ByteSocket, SocketReader, send_all, try_receive, try_send
from mediagen.streams.base import KIB, MIB
from tests.infra.content import content_bytes
from tests.infra.process import need

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
DATA = content_bytes(24 * MIB + 77, 5)
PIECE = 512 * KIB


def plain(info: AddressInfo) -> socket.socket:
    sock = socket.socket(*info[:3])
    sock.setblocking(False)
    return sock


@asynccontextmanager
async def connected(port: int, trusting: ssl.SSLContext) -> AsyncIterator[ByteSocket]:
    dialer = Dialer(ThreadedResolver(), plain, tls=trusting, seconds=10)
    sock = await dialer.connect(URL(f"https://localhost:{port}"))
    try:
        yield sock
    finally:
        sock.close()


@asynccontextmanager
async def serving(certificate: Path, serve: Callable[[ssl.SSLSocket], object]) -> AsyncIterator[int]:
    """A server of the standard library in a thread, for one connection; gives its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    def accept(listener: socket.socket) -> None:
        raw, _ = listener.accept()
        with raw, suppress(OSError), context.wrap_socket(raw, server_side=True) as client:
            serve(client)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(accept, listener))
            yield listener.getsockname()[1]


def offered(sock: ByteSocket, data: bytes) -> None:
    """Send everything as a byte thread does, again and again from where the socket stopped."""
    sent, view = 0, memoryview(data)
    while sent < len(data):
        sent += try_send(sock, view[sent : sent + PIECE], within=0.002)


def received(sock: ByteSocket, size: int) -> bytes:
    got, buffer = bytearray(), memoryview(bytearray(PIECE))
    while len(got) < size and (count := try_receive(sock, buffer, within=20)):
        got += buffer[:count]
    return bytes(got)


@pytest.mark.parametrize("version", VERSIONS)
async def test_both_directions_at_once_in_two_threads(
    certificate: Path, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """The other side sends back what comes, so reading and writing never rest."""
    trusting.maximum_version = version

    def echo(client: ssl.SSLSocket) -> None:
        while data := client.recv(64 * KIB):
            client.sendall(data)

    with ThreadPoolExecutor(2) as threads:
        async with serving(certificate, echo) as port, connected(port, trusting) as sock:
            loop = asyncio.get_running_loop()
            sending = loop.run_in_executor(threads, offered, sock, DATA)
            got = await loop.run_in_executor(threads, received, sock, len(DATA))
            await sending

    assert got == DATA


async def test_the_event_loop_reads_while_a_thread_writes(certificate: Path, trusting: ssl.SSLContext) -> None:
    heard = bytearray()

    def chatter(client: ssl.SSLSocket) -> None:
        while len(heard) < len(DATA) and (data := client.recv(256 * KIB)):
            heard.extend(data)
            client.sendall(b"so far: %12d\n" % len(heard))

    async with serving(certificate, chatter) as port, connected(port, trusting) as sock:
        reader, said, buffer = SocketReader(sock), bytearray(), memoryview(bytearray(1000))
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(offered, sock, DATA))
            while b"so far: %12d\n" % len(DATA) not in said:
                count = await reader.read_into(buffer, gather=False)
                assert count
                said += buffer[:count]

    assert heard == DATA


async def test_what_the_kernel_has_no_room_for_is_counted_once_it_has_gone(
    certificate: Path, trusting: ssl.SSLContext
) -> None:
    """In a thread that gives up, and then in the event loop, which goes on with the same bytes."""
    got, go_on = bytearray(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(client: ssl.SSLSocket) -> None:
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)
        while len(got) < len(DATA) and (data := client.recv(256 * KIB)):
            got.extend(data)
        client.sendall(b"all")

    async with serving(certificate, slow) as port, connected(port, trusting) as sock:
        view, sent = memoryview(DATA), 0
        while count := await asyncio.to_thread(try_send, sock, view[sent : sent + PIECE], within=0.01):
            sent += count
        assert 0 < sent < len(DATA)
        with pytest.raises(ValueError, match="on their way"):
            sock.send(view[:1])
        go_on.set()
        await send_all(sock, view[sent:])
        assert await asyncio.to_thread(received, sock, 3) == b"all"

    assert got == DATA


async def test_an_end_without_farewell_is_told_from_one_with(certificate: Path, trusting: ssl.SSLContext) -> None:
    def said(client: ssl.SSLSocket) -> None:
        client.sendall(DATA[:100_000])
        client.unwrap()

    def cut(client: ssl.SSLSocket) -> None:
        client.sendall(DATA[:100_000])
        client.shutdown(socket.SHUT_RDWR)

    async with serving(certificate, said) as port, connected(port, trusting) as sock:
        assert await asyncio.to_thread(received, sock, len(DATA)) == DATA[:100_000]
    async with serving(certificate, cut) as port, connected(port, trusting) as sock:
        reader, got, buffer = SocketReader(sock), bytearray(), memoryview(bytearray(PIECE))
        while len(got) < 100_000:
            got += buffer[: await reader.read_into(buffer)]
        with pytest.raises(ssl.SSLEOFError):
            await reader.read_into(buffer)
    assert got == DATA[:100_000]


async def test_a_certificate_that_is_not_trusted(certificate: Path) -> None:
    """The other side is told by an alert, as TLS wants it."""
    why: list[str] = []

    def serve() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        raw, _ = listener.accept()
        with raw, pytest.raises(ssl.SSLError) as caught, context.wrap_socket(raw, server_side=True) as client:
            client.recv(1)
        why.append(caught.value.reason or "")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(serve))
            with pytest.raises(ssl.SSLCertVerificationError):
                async with connected(listener.getsockname()[1], ssl.create_default_context()):
                    pass
    assert why[0].endswith("ALERT_UNKNOWN_CA")


@asynccontextmanager
async def openssl_server(certificate: Path, *options: str) -> AsyncIterator[tuple[int, asyncio.subprocess.Process]]:
    """``openssl s_server``: it writes what comes to its output; K at its input renews keys, in both directions."""
    need("openssl")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pipe = asyncio.subprocess.PIPE
    argv = ("s_server", "-accept", f"127.0.0.1:{port}", "-naccept", "1", "-cert", str(certificate), *options)
    server = await asyncio.create_subprocess_exec("openssl", *argv, stdin=pipe, stdout=pipe, limit=MIB)
    assert server.stdout is not None
    try:
        async with asyncio.timeout(20):
            while not (await server.stdout.readline()).startswith(b"ACCEPT"):
                pass
        yield port, server
    finally:
        with suppress(ProcessLookupError):
            server.kill()
        await server.communicate()


RENEWED = b"SSL_do_handshake -> 1\n"


async def test_keys_are_renewed_while_bytes_go_out(certificate: Path, trusting: ssl.SSLContext) -> None:
    """The other side asks for new keys in both directions: a read changes the keys that the next write uses."""
    data = (bytes(range(97, 123)) * 40 + b"\n") * 20_000
    told, renewals, enough = bytearray(), 0, threading.Event()

    def plain_text() -> bytes:
        return bytes(told).replace(RENEWED, b"").replace(b"Read BLOCK\n", b"").replace(b"Write BLOCK\n", b"")

    async with openssl_server(certificate, "-tls1_3") as (port, server), connected(port, trusting) as sock:
        stdin, stdout = server.stdin, server.stdout
        assert stdin is not None
        assert stdout is not None
        reader = SocketReader(sock)

        async def listen() -> None:
            while await reader.read_into(memoryview(bytearray(1000))):
                pass

        def send() -> None:
            offered(sock, data[: len(data) // 2])
            while not enough.is_set():
                offered(sock, b"more\n" * 2000)
            offered(sock, data[len(data) // 2 :] + b"the end\n")

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            listening = group.create_task(listen())
            sending = group.create_task(asyncio.to_thread(send))
            stdin.write(b"K\n")
            while b"the end\n" not in told[-500:]:
                piece = await stdout.read(MIB)
                assert piece, "the server has ended"
                told += piece
                if told.count(RENEWED) > renewals:
                    renewals = told.count(RENEWED)
                    stdin.write(b"K\n")
                if renewals >= 5:
                    enough.set()
            await sending
            listening.cancel()

    text = plain_text()
    more = text.count(b"more\n")
    assert data[: len(data) // 2] + b"more\n" * more + data[len(data) // 2 :] + b"the end\n" in text


async def test_a_server_that_wants_to_renegotiate_is_refused(certificate: Path, trusting: ssl.SSLContext) -> None:
    """In TLS 1.2 writes would wait until reads have carried out a new handshake."""
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2

    async with (
        openssl_server(certificate, "-tls1_2") as (port, server),
        connected(port, configure_for_http1(trusting)) as sock,
    ):
        assert server.stdin is not None
        reader = SocketReader(sock)
        await send_all(sock, b"hello\n")
        server.stdin.write(b"r\n")
        async with asyncio.timeout(20):
            with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):  # it has heard the refusal, and gives up
                await reader.read_into(memoryview(bytearray(1000)))
