"""The body of a request as a source: what is large and of known length is received past aiohttp.

aiohttp makes ``bytes`` of what a socket gives, parses them, copies them, queues them, and stops the transport whenever
half a MiB waits. Over plain TCP the bytes of a large body go from the socket into the reader's buffer instead, in the
event loop or, while they come quickly, in a thread.

The framing of the connection stays aiohttp's own: for each byte that goes past it its protocol is given another one (by
``asyncio.Protocol.data_received``, which is public) and the stream is emptied again. It so finds the end of the body
where it is, reads on, answers and keeps the connection as always; what a client sends behind its body is never touched.
Should that one day no longer be so, aiohttp takes the body for unfinished and closes the connection after the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from mediagen.core.errors import InvalidRequest
from mediagen.net.http1.raw_socket import SocketReader, duplicate_socket
from mediagen.streams.base import MIB
from mediagen.web.http.body import BodyLimits, Pace, invite
from mediagen.web.http.connection_timeouts import Gate

_WORTH: Final = MIB
"""Of smaller bodies aiohttp has most by the time that the first byte is asked for."""
_STAND_INS: Final = bytes(MIB)
"""Given at a time: each time costs aiohttp two changes of what the event loop listens to."""

_MOST_UNTOLD: Final = 8 * MIB
"""After so many a thread comes back: to tell aiohttp of them takes the event loop a millisecond."""


@contextmanager
def incoming(request: web.Request, limits: BodyLimits) -> Iterator[Incoming]:
    """The body of ``request``; afterwards the connection is aiohttp's again."""
    body = Incoming(request, limits)
    try:
        yield body
    finally:
        body.close()


class Incoming:
    """A request's body. Invites it (100 Continue) when its first byte is asked for, which is not before it is wanted.

    Raises from ``read_into``:
        BodyStalled: nothing came for too long, or too little.
        InvalidRequest: the client went away, or its framing is broken.
    """

    def __init__(self, request: web.Request, limits: BodyLimits) -> None:
        self.size = request.content_length
        self._request = request
        self._content = request.content
        self._pace = Pace(limits)
        self._begun = False
        self._early = memoryview(b"")
        self._past: _PastAiohttp | None = None

    async def read_into(self, buffer: memoryview, /) -> int:
        if not self._begun:
            self._begun = True
            await invite(self._request)
            self._past = self._take_over()
        while not self._early:
            if self._past is not None:
                return await self._past.read_into(buffer)
            chunk, _ = await self._pace.wait(self._content.readchunk())  # readany would join what waits
            if not chunk and self._content.at_eof():
                return 0
            self._pace.count(len(chunk))
            self._early = memoryview(chunk)
        count = min(len(buffer), len(self._early))
        buffer[:count] = self._early[:count]
        self._early = self._early[count:]
        return count

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        return 0 if self._early or self._past is None else self._past.try_read(buffer, within=within)

    def close(self) -> None:
        if self._past is not None:
            self._past.close()
            self._past = None

    def _take_over(self) -> _PastAiohttp | None:
        """Go past aiohttp from here on, if that can be done and is worth it; what has come already is in ``_early``."""
        content, protocol, transport = self._content, self._request.protocol, self._request.transport
        if self.size is None or self.size - content.total_bytes < _WORTH or content.exception() is not None:
            return None
        if transport is None or transport.is_closing() or not _leads_to(transport, protocol):
            return None
        self._early = memoryview(content.read_nowait())
        left = self.size - content.total_bytes
        if not left or (sock := duplicate_socket(transport)) is None:
            return None
        return _PastAiohttp(self._request, transport, SocketReader(sock), left, self._pace)


def _leads_to(transport: asyncio.Transport, protocol: object) -> bool:
    """Whether what the transport receives goes to this protocol, with nothing but our gate between them."""
    first = transport.get_protocol()
    return first is protocol or (isinstance(first, Gate) and first.serves(protocol))


class _PastAiohttp:
    """The last ``left`` bytes of a body, from the socket. Nobody else may read from it: the transport is stopped."""

    def __init__(
        self, request: web.Request, transport: asyncio.Transport, reader: SocketReader, left: int, pace: Pace
    ) -> None:
        self._pace = pace
        self._content = request.content
        self._protocol = request.protocol
        self._transport = transport
        self._reader = reader
        self._left = left
        self._untold = 0
        self._content.set_read_chunk_size(len(_STAND_INS))  # or it would stop to parse in the middle of them
        transport.pause_reading()

    async def read_into(self, buffer: memoryview) -> int:
        self._tell(at_least=len(_STAND_INS))
        if not self._left:
            return 0
        if (lost := self._content.exception()) is not None:
            raise InvalidRequest("the body is shorter than announced") from lost
        count = await self._pace.wait(self._reader.read_into(buffer[: self._left]))
        if not count:
            raise InvalidRequest("the body is shorter than announced")
        self._passed(count)
        self._pace.count(count)
        return count

    def try_read(self, buffer: memoryview, *, within: float) -> int:
        if not self._left or self._untold >= _MOST_UNTOLD:
            return 0
        count = self._reader.try_read(buffer[: self._left], within=within)
        self._passed(count)
        self._pace.add(count)
        return count

    def close(self) -> None:
        self._reader.close()
        self._tell(at_least=1)
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _passed(self, count: int) -> None:
        self._left -= count
        self._untold += count

    def _tell(self, *, at_least: int) -> None:
        """Let aiohttp count what went past it, unless that is less than ``at_least`` bytes."""
        while self._untold >= at_least and self._content.exception() is None:
            count = min(self._untold, len(_STAND_INS))
            self._untold -= count
            self._protocol.data_received(_STAND_INS[:count])
            self._content.read_nowait()
            if not self._content.is_eof():
                self._transport.pause_reading()  # aiohttp has started it again
