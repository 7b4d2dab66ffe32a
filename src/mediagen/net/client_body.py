"""The body of an answer, received straight into the reader's buffer.

aiohttp makes the connection, speaks TLS, sends the request and reads the head. From there on, a body of plain framing
(a length, or until the connection ends) needs no parser. Over plain TCP it is received from the socket itself, over
TLS by a ``BufferedProtocol`` on the same transport: in both cases into the buffer of whoever reads, for a third of the
CPU of a stream of ``bytes``. A chunked body stays with aiohttp's parser. A connection that was taken over is closed at
the end, not reused.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from typing import Final, Protocol

import aiohttp

from mediagen.core.errors import FetchFailed, SourceStalled, SourceTruncated
from mediagen.net.plain import SocketReader, plain_socket
from mediagen.streams.base import KIB, MIB

_AT_LEAST: Final = MIB
"""A read returns when its buffer is full or this much has come; less after ``_PATIENCE``, so that a drip moves on."""
_PATIENCE: Final = 0.2
_SPILL: Final = 64 * KIB


class BodyReader(Protocol):
    """Bytes of one answer. Raises FetchFailed or one of its children, never an error of aiohttp."""

    async def read_into(self, buffer: memoryview, /) -> int: ...

    def take(self, buffer: memoryview, /, *, within: float) -> int:
        """What comes ``within`` seconds; 0 when only ``read_into`` can tell. For a thread that has the reader alone."""

    def close(self) -> None: ...


def open_body(response: aiohttp.ClientResponse, *, stall: float) -> BodyReader:
    """The fastest reader that the answer's framing allows. ``stall``: longest silence in seconds."""
    connection = response.connection
    transport = connection.transport if connection is not None else None
    if transport is None or "Transfer-Encoding" in response.headers or not isinstance(transport, asyncio.Transport):
        return _ParsedBody(response, stall)
    try:
        early = response.content.read_nowait(-1)
    except (aiohttp.ClientError, OSError) as exc:
        raise FetchFailed(f"the connection broke: {exc}") from None
    if response.content.is_eof():
        return _ParsedBody(response, stall, early)
    transport.pause_reading()
    if sock := plain_socket(transport):
        return _SocketBody(response, transport, sock, early, stall)
    return _TransportBody(response, transport, early, stall)


class Answer(aiohttp.ClientResponse):
    """An answer that knows how its connection ended; aiohttp takes a reset for the end of a body without a length."""

    _ending: asyncio.Future[None] | None = None

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        if connection.protocol is not None and (ending := connection.protocol.closed) is not None:
            self._ending = ending
            ending.add_done_callback(_broken)
        return await super().start(connection)

    @property
    def broken(self) -> bool:
        """The connection has ended with an error."""
        return self._ending is not None and self._ending.done() and _broken(self._ending)


def _broken(ending: asyncio.Future[None]) -> bool:
    return not ending.cancelled() and ending.exception() is not None


class _ParsedBody:
    """Through aiohttp's parser."""

    def __init__(self, response: aiohttp.ClientResponse, stall: float, early: bytes = b"") -> None:
        self._response = response
        self._stall = stall
        self._left = memoryview(early)

    async def read_into(self, buffer: memoryview, /) -> int:
        if not self._left:
            try:
                async with asyncio.timeout(self._stall):
                    self._left = memoryview(await self._response.content.readany())
            except TimeoutError:
                raise SourceStalled(f"no data for {self._stall:g} s") from None
            except aiohttp.ClientPayloadError as exc:
                raise SourceTruncated(f"the answer broke off: {exc}") from None
            except (aiohttp.ClientError, OSError) as exc:
                raise FetchFailed(f"the connection broke: {exc}") from None
            if not self._left and isinstance(self._response, Answer) and self._response.broken and self._open_ended:
                raise SourceTruncated("the connection broke, and nothing says that it was at the end")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def take(self, buffer: memoryview, /, *, within: float) -> int:
        return 0

    @property
    def _open_ended(self) -> bool:
        return self._response.content_length is None and "Transfer-Encoding" not in self._response.headers

    def close(self) -> None:
        self._response.close()


class _TakenOver(ABC):
    """A body of plain framing: so many bytes, or until the connection ends."""

    def __init__(
        self, response: aiohttp.ClientResponse, transport: asyncio.Transport, early: bytes, stall: float
    ) -> None:
        self._response = response
        self._transport = transport
        self._early = memoryview(early)
        self._left = response.content_length
        self._stall = stall
        self._ended = False
        self._error: FetchFailed | None = None
        self._loop = asyncio.get_running_loop()

    async def read_into(self, buffer: memoryview, /) -> int:
        if self._left is not None:
            buffer = buffer[: self._left]
        if not buffer:
            return 0
        filled = self._take_early(buffer)
        if not filled and not self._ended and self._error is None:
            filled = await self._receive(buffer) or self._take_early(buffer)
        if not filled and self._error is not None:
            raise self._error
        if self._left is not None:
            if not filled:
                raise SourceTruncated(f"the connection closed {self._left} bytes before the announced end")
            self._left -= filled
        return filled

    def take(self, buffer: memoryview, /, *, within: float) -> int:
        return 0

    def _take_early(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._early))
        if count:
            buffer[:count] = self._early[:count]
            self._early = self._early[count:]
        return count

    @abstractmethod
    async def _receive(self, buffer: memoryview) -> int:
        """At least one byte; none at the end, or when ``_error`` says what happened."""

    def close(self) -> None:
        self._transport.abort()
        self._response.close()


class _SocketBody(_TakenOver):
    """From the socket, past the transport, which is paused for good."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        transport: asyncio.Transport,
        sock: socket.socket,
        early: bytes,
        stall: float,
    ) -> None:
        super().__init__(response, transport, early, stall)
        self._reader = SocketReader(sock)

    async def _receive(self, buffer: memoryview) -> int:
        try:
            return await self._reader.read_into(buffer, stall=self._stall)
        except TimeoutError:
            raise SourceStalled(f"no data for {self._stall:g} s") from None
        except OSError as exc:
            self._error = FetchFailed(f"the connection broke: {type(exc).__name__}")
            return 0

    def take(self, buffer: memoryview, /, *, within: float) -> int:
        if self._early or self._error is not None or self._left == 0:
            return 0
        count = self._reader.take(buffer if self._left is None else buffer[: self._left], within=within)
        if self._left is not None:
            self._left -= count
        return count

    def close(self) -> None:
        self._reader.close()
        super().close()


class _TransportBody(_TakenOver, asyncio.BufferedProtocol):
    """Receives into the buffer of the present reader; reading from the socket is paused while there is none."""

    def __init__(
        self, response: aiohttp.ClientResponse, transport: asyncio.Transport, early: bytes, stall: float
    ) -> None:
        super().__init__(response, transport, early, stall)
        self._target: memoryview | None = None
        self._filled = 0
        self._spill = memoryview(b"")
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    async def _receive(self, buffer: memoryview) -> int:
        self._target, self._filled = buffer, 0
        self._waiter = self._loop.create_future()
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(_PATIENCE, self._look)
        self._transport.resume_reading()
        try:
            await self._waiter
        finally:
            self._target = self._waiter = None
            if not self._closed:
                self._transport.pause_reading()
        return self._filled

    def _look(self) -> None:
        """Now and then: let a slow drip move on, end a silence that lasts too long."""
        self._timer = None
        if self._closed or self._waiter is None:
            return
        if self._filled:
            self._wake()
        elif self._loop.time() - self._since >= self._stall:
            self._error = SourceStalled(f"no data for {self._stall:g} s")
            self._wake()
        self._timer = self._loop.call_later(min(_PATIENCE, self._stall), self._look)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            self._wake()
            super().close()

    # asyncio.BufferedProtocol

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._target is None or self._filled == len(self._target):
            # only what a TLS layer had decrypted before it heard of the pause comes here; see buffer_updated
            self._spill = memoryview(bytearray(_SPILL))
            return self._spill
        return self._target[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._target is None or self._filled == len(self._target):
            self._early = memoryview(bytes(self._early) + bytes(self._spill[:nbytes]))
            return
        self._filled += nbytes
        if self._filled >= _AT_LEAST or self._filled == len(self._target):
            self._transport.pause_reading()
            self._wake()

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._error is None:
            self._error = FetchFailed(f"the connection broke: {type(exc).__name__}")
        self._end()

    def _end(self) -> None:
        if not self._ended and self._error is None and not self._closed:
            self._take_rest()
        self._ended = True
        self._wake()

    def _take_rest(self) -> None:
        """What the TLS layer still holds: it throws that away when the connection ends while nobody reads.

        TLS says by an alert that it ends. Without a length the body is whole only then: the end of the TCP connection
        alone can come from anybody on the way (RFC 9112 section 9.8).
        """
        layer, spill = self._transport.get_extra_info("ssl_object"), bytearray(_SPILL)
        rest, alerted = bytearray(self._early), False
        try:
            while count := layer.read(_SPILL, spill):
                rest += memoryview(spill)[:count]
            alerted = True
        except ssl.SSLZeroReturnError:
            alerted = True
        except ssl.SSLError:  # SSLWantReadError above all: it has nothing more
            alerted = False
        self._early = memoryview(rest)
        if not alerted and self._left is None:
            self._error = SourceTruncated("the connection ended without the closing alert of TLS")
