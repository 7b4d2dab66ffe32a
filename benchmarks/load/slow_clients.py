"""Clients that hold on to a connection by doing as little as possible, after slowhttptest's attacks.

Each comes back as soon as it is thrown out, so that there are always as many as there are meant to be.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

SPACING = 1.0
"""Seconds between two bytes, or two fields, of a client."""

Act: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Crowd:
    """How it went: connections open now, thrown out or refused so far."""

    open: int = 0
    ended: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


async def _drip(writer: asyncio.StreamWriter, piece: bytes) -> None:
    while True:
        await asyncio.sleep(SPACING * random.uniform(0.5, 1.5))
        writer.write(piece)
        await writer.drain()


async def _until_ended(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass


async def slow_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never comes to the end of its head (slowloris)."""
    writer.write(b"GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\n")
    await _beside(_drip(writer, b"X-a: b\r\n"), reader)


async def slow_json(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends JSON byte by byte."""
    writer.write(b"POST /v1/ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{")
    await _beside(_drip(writer, b" "), reader)


async def slow_upload(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends a file byte by byte."""
    writer.write(b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n" + bytes(8192))
    await _beside(_drip(writer, b" "), reader)


def slow_reader(path: str) -> Act:
    """Asks for much, and takes 32 bytes at a time."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 3)
        while await reader.read(32):
            await asyncio.sleep(SPACING * random.uniform(0.5, 1.5))

    return act


async def _beside(drip: Awaitable[None], reader: asyncio.StreamReader) -> None:
    """Drip until the server ends it."""
    task = asyncio.ensure_future(drip)  # noqa: TID251 - ended below
    try:
        await _until_ended(reader)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _stay(port: int, act: Act, crowd: Crowd) -> None:
    loop = asyncio.get_running_loop()
    while True:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
        except OSError:
            sock.close()
            crowd.ended += 1
            await asyncio.sleep(SPACING)
            continue
        crowd.open += 1
        try:
            await act(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # thrown out
        finally:
            crowd.open -= 1
            writer.transport.abort()
        crowd.ended += 1
        await asyncio.sleep(SPACING * random.random())


@asynccontextmanager
async def crowded(port: int, act: Act, count: int) -> AsyncIterator[Crowd]:
    """So many clients of one kind while the context is open."""
    crowd = Crowd()
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(_stay(port, act, crowd)) for _ in range(count)]
        yield crowd
        for task in running:
            task.cancel()
