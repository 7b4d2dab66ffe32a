"""The client that takes a file: written to past the transport, with a limit on how long it may take nothing.

Over plain TCP bytes go from the disk to the socket by the kernel, in a thread (a cold disk would hold up the event
loop), and those in memory straight to the socket. Where there is no plain socket (another event loop, TLS) they go
through aiohttp.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from io import FileIO
from typing import Final, Self

from aiohttp import web

from mediagen.core.errors import first_cause
from mediagen.core.owned_tasks import Finishing
from mediagen.net.http1.raw_socket import duplicate_socket
from mediagen.streams.base import KIB, MIB

SLICE: Final = 256 * KIB
"""Bytes that a reader is given at a time where only the event loop can tell that it takes them."""
UNSENT: Final = 256 * KIB
"""Bytes that wait in the kernel to be sent; what is on its way does not count, so a long line is not slowed down."""
QUICK_UNSENT: Final = 4 * MIB
"""The same for a reader who takes what there is: each time that the kernel wakes us costs as much as its copying."""
_QUICK: Final = 4 * MIB
"""Bytes that such a reader takes in one turn of a thread."""
_TURN: Final = 16 * MIB
_TURN_SECONDS: Final = 0.05
"""Bytes or seconds after which a thread that sends is free for the next reader."""
_TURN_MILLISECONDS: Final = 2
"""How long a thread waits for a reader before the event loop does."""
_FAIR_SHARE: Final = MIB
_WATCH_SECONDS: Final = 0.5
_LOOKS: Final = 4
"""How often within the limit it is looked whether a reader takes something."""


class ResponseWriter:
    """One client and its answer, whose head has been sent. To be used inside ``async with``.

    Every call raises ConnectionResetError when the client went away, and when it took nothing for ``stall_seconds``:
    then the connection has been cut, for a half must not look like a whole.
    """

    def __init__(self, request: web.Request, response: web.StreamResponse, *, stall_seconds: float) -> None:
        self._request = request
        self._response = response
        self._stall_seconds = stall_seconds
        self._sock: socket.socket | None = None
        self._unyielded = 0
        self._allowed = UNSENT
        self._threads = Finishing()

    async def __aenter__(self) -> Self:
        transport = self._transport()
        if (sock := duplicate_socket(transport)) is not None:
            self._sock = sock
            await self._empty(transport)  # the head goes first
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._threads.wait()
        if self._sock is not None:
            self._allow(self._sock, UNSENT)  # the connection may serve others after this one
            self._sock.close()

    async def write(self, data: bytes | memoryview) -> None:
        """Send ``data``, which is the caller's again when this returns."""
        view = memoryview(data)
        if self._sock is None:
            for start in range(0, len(view), SLICE):
                async with self._limit():
                    await self._response.write(bytes(view[start : start + SLICE]))
            return
        while view:
            try:
                sent = self._sock.send(view)
            except BlockingIOError:
                await self._until_taken(self._sock)
                continue
            except OSError:
                raise ConnectionResetError("the reader went away") from None
            view = view[sent:]
            await self._count(sent)

    async def send_file(self, handle: FileIO, wanted: range, threads: Executor) -> None:
        """Send these bytes of a file, by the kernel where there is a plain socket."""
        at = wanted.start
        while at < wanted.stop:
            if self._sock is None:
                data = await asyncio.to_thread(os.pread, handle.fileno(), min(SLICE, wanted.stop - at), at)
                if not data:
                    raise _shorter()
                await self.write(data)
                sent = len(data)
            else:
                self._transport()
                length = min(_TURN, wanted.stop - at)
                sent = await self._threads.see_through(_in_thread(threads, self._sock, handle, at, length))
                self._request.writer.output_size += sent
                self._allow(self._sock, QUICK_UNSENT if sent >= _QUICK else UNSENT)
                if not sent:
                    await self._until_taken(self._sock)
            at += sent

    def _allow(self, sock: socket.socket, unsent: int) -> None:
        """Let so much wait in the kernel (tcp(7), TCP_NOTSENT_LOWAT): little for whom it would only lie there."""
        if unsent != self._allowed:
            self._allowed = unsent
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)

    async def finish(self) -> None:
        """End the answer, when what was written has left us: an end that nobody takes must not stay in memory."""
        async with self._limit() as transport:
            await self._response.write_eof()
        await self._empty(transport)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Leave the block when the client goes away, also while the block waits for something else than the client."""
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._until_gone())
                yield
                watch.cancel()
        except BaseExceptionGroup as failures:
            raise first_cause(failures) from None

    async def _until_gone(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)  # the framework tells a handler of it only when it writes
            self._transport()

    def _transport(self) -> asyncio.Transport:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the reader went away")
        return transport

    async def _count(self, sent: int) -> None:
        """Tell the access log; give the other tasks of the loop their turn when a reader takes all at once."""
        self._request.writer.output_size += sent
        self._unyielded += sent
        if self._unyielded >= _FAIR_SHARE:
            self._unyielded = 0
            await asyncio.sleep(0)
            self._transport()

    async def _empty(self, transport: asyncio.Transport) -> None:
        """Wait until the transport holds nothing more."""
        if transport.get_write_buffer_size():
            async with self._limit():
                transport.set_write_buffer_limits(high=0)
                try:
                    await self._request.writer.drain()
                finally:
                    transport.set_write_buffer_limits()

    async def _until_taken(self, sock: socket.socket) -> None:
        """Wait until the socket takes more.

        That can be long for a slow reader, since the kernel says so only when a third of what it holds has left. As
        long as its unsent bytes become fewer the reader does not stand still.
        """
        loop = asyncio.get_running_loop()
        unsent, moved_at = _unsent(sock), loop.time()
        while True:
            transport = self._transport()
            waiter: asyncio.Future[None] = loop.create_future()
            loop.add_writer(sock, _wake, waiter)
            try:
                async with asyncio.timeout(self._stall_seconds / _LOOKS):
                    return await waiter
            except TimeoutError:
                now = _unsent(sock)
                if now < unsent:
                    unsent, moved_at = now, loop.time()
                elif loop.time() - moved_at >= self._stall_seconds:
                    raise self._cut(transport) from None
            finally:
                loop.remove_writer(sock)

    @asynccontextmanager
    async def _limit(self) -> AsyncIterator[asyncio.Transport]:
        transport = self._transport()
        limit = asyncio.timeout(self._stall_seconds)
        try:
            async with limit:
                yield transport
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._cut(transport) from None

    def _cut(self, transport: asyncio.Transport) -> ConnectionResetError:
        transport.abort()
        return ConnectionResetError(f"the reader took nothing for {self._stall_seconds:g} s")


async def _in_thread(threads: Executor, sock: socket.socket, handle: FileIO, at: int, length: int) -> int:
    return await asyncio.get_running_loop().run_in_executor(threads, _push, sock, handle, at, length)


def _push(sock: socket.socket, handle: FileIO, at: int, length: int) -> int:
    """How many of these bytes the socket took without a pause. Blocks. Raises ConnectionResetError."""
    sent, end = 0, time.monotonic() + _TURN_SECONDS
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    while sent < length and (not sent or time.monotonic() < end):
        try:
            count = os.sendfile(sock.fileno(), handle.fileno(), at + sent, length - sent)
        except BlockingIOError:
            if not poll.poll(_TURN_MILLISECONDS):
                break
            continue
        except OSError as exc:
            if exc.errno == errno.EIO:
                raise
            raise ConnectionResetError("the reader went away") from None
        if not count:
            raise _shorter()
        sent += count
    return sent


def _shorter() -> EOFError:
    return EOFError("the file became shorter while it was sent")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _unsent(sock: socket.socket) -> int:
    """Bytes in the kernel that the other side has not acknowledged (tcp(7), SIOCOUTQ)."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(count)
