"""Non-blocking sockets of plain TCP and of TLS, for those who move many bytes over them."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from typing import Final, Protocol

from mediagen.streams.base import KIB

FAIR_SHARE: Final = 512 * KIB
"""After so many bytes received at a stretch the other tasks of the loop get their turn."""
_GATHER: Final = 256 * KIB
_GATHER_SECONDS: Final = 0.004
_GATHER_ROUNDS: Final = 4
_TIMER_SECONDS: Final = 0.001
_CLOSED_HERE: Final = "the connection was closed here"


class ByteSocket(Protocol):
    """A non-blocking socket, plain or over TLS. What cannot be done now raises BlockingIOError."""

    def fileno(self) -> int: ...

    def send(self, data: memoryview, /) -> int:
        """How many bytes of ``data`` were taken. After BlockingIOError the next call begins with the same bytes."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Bytes put into ``buffer``; 0 at the end of the connection."""

    def close(self) -> None: ...


def duplicate_socket(transport: asyncio.BaseTransport | None) -> socket.socket | None:
    """A second, non-blocking descriptor of the connection, the caller's to close; None when there is none to be had.

    None over TLS, whose bytes are made in the transport, and on an event loop that has transports of its own kind.
    Whoever reads or writes here must keep the transport from doing the same.
    """
    if not isinstance(transport, asyncio.Transport) or transport.get_extra_info("ssl_object") is not None:
        return None
    sock: socket.socket = transport.get_extra_info("socket").dup()
    sock.setblocking(False)
    return sock


class SocketReader:
    """Receives from a socket that nobody else reads from, in the event loop or in a thread.

    While bytes are at hand a read costs one system call and no turn of the event loop. When they come slower than they
    are taken, it waits a few milliseconds for more to gather instead of waking up for every packet. ``sock`` is closed
    with the reader.
    """

    def __init__(self, sock: ByteSocket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._error: OSError | None = None
        self._unyielded = 0
        self._taken = 0
        self._rate = 0.0
        self._measured_at = self._loop.time()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    async def read_into(self, buffer: memoryview, *, stall: float | None = None, gather: bool = True) -> int:
        """At least one byte; 0 at the end of the connection. ``stall``: seconds without one.

        ``gather``: wait a little for more, for a body; nobody waits longer for the few bytes of a head.

        Raises:
            TimeoutError: nothing came for ``stall`` seconds.
            OSError: the connection broke; what came before that was given.
        """
        if self._unyielded >= FAIR_SHARE:
            self._unyielded = 0
            await asyncio.sleep(0)
        filled = 0
        if not self._ended and self._error is None:
            filled = await self._gather(buffer[:FAIR_SHARE], stall, _GATHER_ROUNDS if gather else 0)
        if not filled and self._error is not None:
            raise self._error
        self._unyielded += filled
        self._measure(filled + self._taken)
        self._taken = 0
        return filled

    def try_read(self, buffer: memoryview, *, within: float) -> int:
        """What comes ``within`` seconds; 0: nothing, or what only ``read_into`` tells. For a thread."""
        if self._ended or self._error is not None:
            return 0
        try:
            count = try_receive(self._sock, buffer, within=within)
        except OSError as exc:
            self._error = exc
            return 0
        if count is None:
            return 0
        self._ended = count == 0 and len(buffer) > 0
        self._taken += count
        return count

    async def _gather(self, buffer: memoryview, stall: float | None, most_rounds: int) -> int:
        filled = rounds = 0
        enough = min(len(buffer), _GATHER)
        while filled < len(buffer):
            try:
                count = _receive(self._sock, buffer[filled:])
            except OSError as exc:
                # what came before it is good; the next read tells of it, for the socket will not again
                self._error = exc
                break
            if count is not None:
                self._ended = count == 0
                filled += count
                if self._ended:
                    break
            elif not filled:
                await self._comes(stall)
            elif filled < enough and rounds < most_rounds and (pause := self._pause(enough - filled)):
                rounds += 1
                await asyncio.sleep(pause)
            else:
                break
        return filled

    def _pause(self, missing: int) -> float:
        """Seconds in which ``missing`` bytes come at the present rate; 0 when that is less than a timer can wait."""
        pause = missing / self._rate if self._rate else 0.0
        return min(pause, _GATHER_SECONDS) if pause >= _TIMER_SECONDS else 0.0

    def _measure(self, count: int) -> None:
        now = self._loop.time()
        elapsed = now - self._measured_at
        if elapsed > 0:
            self._measured_at = now
            self._rate += 0.25 * (count / elapsed - self._rate)

    async def _comes(self, stall: float | None) -> None:
        """Wait until there is something to receive."""
        self._waiter = waiter = self._loop.create_future()
        fd = self._sock.fileno()
        self._loop.add_reader(fd, _wake, waiter)
        try:
            async with asyncio.timeout(stall):
                await waiter
        finally:
            self._waiter = None
            if not self._closed:  # or the number may be somebody else's by now
                self._loop.remove_reader(fd)

    def close(self) -> None:
        """Close the socket; a read that waits for it fails. Not while a thread has the reader."""
        if self._closed:
            return
        self._closed = True
        if self._waiter is not None:
            self._loop.remove_reader(self._sock.fileno())
            if not self._waiter.done():
                self._waiter.set_exception(ConnectionAbortedError(_CLOSED_HERE))
        self._sock.close()

    def is_quiet(self) -> bool:
        """Whether the connection stands and nothing has come over it that was not read. Not while somebody reads."""
        if self._closed or self._ended or self._error is not None:
            return False
        try:
            return _receive(self._sock, memoryview(bytearray(1))) is None
        except OSError:
            return False


def _receive(sock: ByteSocket, buffer: memoryview) -> int | None:
    """Bytes put into ``buffer``, 0 at the end of the connection; None: nothing is at hand."""
    try:
        return sock.recv_into(buffer)
    except BlockingIOError:
        return None


async def wait_ready(sock: ByteSocket, event: int) -> None:
    """Wait in the event loop until ``sock`` can be read (``select.POLLIN``) or written (``select.POLLOUT``)."""
    loop, fd = asyncio.get_running_loop(), sock.fileno()
    if fd < 0:
        raise ConnectionAbortedError(_CLOSED_HERE)
    waiter: asyncio.Future[None] = loop.create_future()
    add, remove = (
        (loop.add_reader, loop.remove_reader) if event == select.POLLIN else (loop.add_writer, loop.remove_writer)
    )
    add(fd, _wake, waiter)
    try:
        await waiter
    finally:
        if sock.fileno() == fd:  # closed meanwhile, the number may be somebody else's by now
            remove(fd)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def try_receive(sock: ByteSocket, buffer: memoryview, *, within: float) -> int | None:
    """Bytes put into ``buffer``, 0 at the end of the connection; None: nothing came ``within`` seconds.

    Blocks for so long; call it in a thread. Raises OSError.
    """
    until: float | None = None
    while (count := _receive(sock, buffer)) is None and within > 0:
        now = time.monotonic()
        until = now + within if until is None else until
        if now >= until or not _comes(sock, select.POLLIN, until - now):
            return None
    return count


def try_send(sock: ByteSocket, view: memoryview, *, within: float) -> int:
    """How many bytes of ``view`` the socket took without a pause of more than ``within`` seconds.

    Blocks for so long; call it in a thread. Raises OSError.
    """
    sent = 0
    while sent < len(view):
        try:
            sent += sock.send(view[sent:])
        except BlockingIOError:
            if not _comes(sock, select.POLLOUT, within):
                break
    return sent


async def send_all(sock: ByteSocket, data: bytes | memoryview) -> None:
    """Send all of ``data`` from the event loop. Raises OSError."""
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            await wait_ready(sock, select.POLLOUT)


def _comes(sock: ByteSocket, event: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(sock, event)
    return bool(poll.poll(seconds * 1000))
