"""The body of an answer, received from its connection straight into the buffer of whoever reads.

In the event loop or, while bytes come quickly, in a thread (``take``); whatever the framing, over TCP and TLS alike.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from typing import Protocol

from mediagen.core.errors import FetchFailed, SourceStalled, SourceTruncated
from mediagen.net.http1.chunked import ChunkDecoder
from mediagen.net.http1.raw_socket import SocketReader
from mediagen.net.http1.response import Response


class BodyReader(Protocol):
    """Bytes of one answer. Raises FetchFailed or one of its children, never an error of the socket."""

    async def read_into(self, buffer: memoryview, /) -> int: ...

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        """What comes ``within`` seconds; 0 when only ``read_into`` can tell. For a thread that has the reader alone."""

    def close(self) -> None: ...


def open_body(response: Response, *, stall: float) -> BodyReader:
    """The body of ``response``, which is closed with it. ``stall``: longest silence in seconds."""
    inflow = _Inflow(response.reader, response.early, stall)
    if response.framing.chunked:
        return _ChunkedBody(inflow)
    return _PlainBody(inflow, response.framing.length)


class _Inflow:
    """What a connection brings behind the head, with its failures in our own words."""

    def __init__(self, reader: SocketReader, early: bytes, stall: float) -> None:
        self._reader = reader
        self._early = memoryview(early)
        self._stall = stall
        self.cut_off = False
        """The connection has ended without TLS's closing alert: anybody on the way can have ended it."""

    async def read_into(self, buffer: memoryview) -> int:
        """At least one byte; 0 at the end of the connection."""
        if count := self._take_early(buffer):
            return count
        try:
            return await self._reader.read_into(buffer, stall=self._stall)
        except TimeoutError:
            raise SourceStalled(f"no data for {self._stall:g} s") from None
        except ssl.SSLEOFError:
            self.cut_off = True
            return 0
        except OSError as exc:
            raise FetchFailed(f"the connection broke: {type(exc).__name__}") from None

    def try_read(self, buffer: memoryview, *, within: float) -> int:
        return self._take_early(buffer) or self._reader.try_read(buffer, within=within)

    def give_back(self, view: memoryview) -> None:
        """These bytes come again before all others."""
        self._early = memoryview(bytes(view) + bytes(self._early))

    def _take_early(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._early))
        if count:
            buffer[:count] = self._early[:count]
            self._early = self._early[count:]
        return count

    def close(self) -> None:
        self._reader.close()


class _Framed(ABC):
    """What the framings have in common."""

    def __init__(self, inflow: _Inflow) -> None:
        self._inflow = inflow

    @abstractmethod
    async def read_into(self, buffer: memoryview, /) -> int: ...

    @abstractmethod
    def try_read(self, buffer: memoryview, /, *, within: float) -> int: ...

    def close(self) -> None:
        self._inflow.close()


class _PlainBody(_Framed):
    """So many bytes, or until the connection ends. What a source sends behind the length is not read."""

    def __init__(self, inflow: _Inflow, length: int | None) -> None:
        super().__init__(inflow)
        self._left = length

    async def read_into(self, buffer: memoryview, /) -> int:
        view = self._room(buffer)
        if not view:
            return 0
        count = await self._inflow.read_into(view)
        if not count and self._left is not None:
            raise SourceTruncated(f"the connection closed {self._left} bytes before the announced end")
        if not count and self._inflow.cut_off:
            raise SourceTruncated("the connection ended without the closing alert of TLS")  # RFC 9112 section 9.8
        return self._came(count)

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        view = self._room(buffer)
        return self._came(self._inflow.try_read(view, within=within)) if view else 0

    def _room(self, buffer: memoryview) -> memoryview:
        return buffer if self._left is None else buffer[: self._left]

    def _came(self, count: int) -> int:
        if self._left is not None:
            self._left -= count
        return count


class _ChunkedBody(_Framed):
    """In chunks, which end with a last one."""

    def __init__(self, inflow: _Inflow) -> None:
        super().__init__(inflow)
        self._decoder = ChunkDecoder()
        self._error: FetchFailed | None = None
        self._behind = False

    async def read_into(self, buffer: memoryview, /) -> int:
        while buffer and self._error is None and not self._decoder.ended:
            if self._behind:
                await asyncio.sleep(0)
            received = await self._inflow.read_into(buffer)
            if not received:
                raise SourceTruncated("the connection closed before the last chunk")
            if count := self._decode(buffer[:received]):
                return count
        if self._error is not None:
            raise self._error
        return 0

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        if self._error is not None or self._decoder.ended:
            return 0
        return self._decode(buffer[: self._inflow.try_read(buffer, within=within)])

    def _decode(self, received: memoryview) -> int:
        try:
            count, used = self._decoder.decode(received)
        except FetchFailed as exc:
            self._error = exc  # told by the next read of the event loop
            return 0
        self._behind = used < len(received)
        if self._behind:
            self._inflow.give_back(received[used:])
        return count
