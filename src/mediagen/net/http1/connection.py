"""Uploads over connections that are used again (RFC 9112 section 9.3).

A connection goes back into the pool only when nothing of an exchange is left on it: the request went out whole, the
answer is a success that has a length and came whole, and nothing came behind it. Any other connection is closed.
Between exchanges nobody reads from it; over one that something has come, or that has ended, nothing more is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from multidict import CIMultiDictProxy
from yarl import URL

from mediagen.core.errors import first_cause
from mediagen.net.http1.head import Head, parse_framing
from mediagen.net.http1.raw_socket import ByteSocket, SocketReader, send_all, try_send
from mediagen.net.http1.response import Response, receive_head, request_head
from mediagen.net.http1.response_body import open_body
from mediagen.streams.base import KIB, MIB, Target

_MAX_BODY: Final = MIB
"""Bytes of an answer that are kept; an upload's answer is short."""
_LAST_WORDS_SECONDS: Final = 1.0


WaitForContinue: TypeAlias = Callable[[asyncio.Event], Awaitable[None]]
"""Returns once a body may be sent; the event is set by ``100 Continue``."""


class Upload(Protocol):
    """A body to be sent."""

    @property
    def given(self) -> bool:
        """Whether its last piece was handed on, or begun to be."""

    async def write_to(self, target: Target, /) -> None:
        """Give all bytes to ``target``. Returns, or is cancelled, only once no thread of its own uses the target."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read whole."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class StaleConnection(ConnectionError):
    """A connection that was used before had ended when it was to be used again; nothing of the body has gone."""


class Connection:
    """One connection, used for one exchange at a time by whoever has it."""

    def __init__(self, sock: ByteSocket) -> None:
        self._sock = sock
        self._reader = SocketReader(sock)
        self._exchanges = 0
        self.reusable = False
        """Whether the last exchange left nothing behind."""

    def is_quiet(self) -> bool:
        """Whether it still stands, and nothing has come that nobody asked for."""
        return self._reader.is_quiet()

    def close(self) -> None:
        self._reader.close()

    async def upload(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: Upload,
        *,
        stall: float,
        wait_for_continue: WaitForContinue | None = None,
    ) -> Answer:
        """Send a request with its body, listen meanwhile, and give the answer.

        An answer that comes before all of ``body`` has gone counts, and the rest is not sent; but no success does.

        Args:
            headers: with ``Content-Length``.
            stall: longest silence in seconds while the answer's body is read.
            wait_for_continue: awaited before the body is sent.

        Raises:
            StaleConnection: try another connection.
            FetchFailed: what came is no answer that can be read, or was cut off.
            OSError: the connection broke.
            Exception: what ``body`` raises.
        """
        self.reusable = False
        again, self._exchanges = self._exchanges > 0, self._exchanges + 1
        going = _OutgoingRequest(self._sock, request_head(method, url, headers), body, wait_for_continue)
        try:
            head, early = await self._exchange(going)
        except OSError as exc:
            if again and not going.body_begun:
                raise StaleConnection(str(exc)) from exc
            raise
        if not going.ended and head.status < 300:
            raise ConnectionError(f"the answer {head.status} came before the body had gone")
        return await self._answer(url, head, early, stall, whole=going.ended)

    async def _exchange(self, going: _OutgoingRequest) -> tuple[Head, bytes]:
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(going.send())
                answer = group.create_task(receive_head(self._reader, on_continue=going.continued.set))
                await asyncio.wait([sending, answer], return_when=asyncio.FIRST_COMPLETED)
                if not answer.done() and going.lost is not None:
                    # who does not want the rest of a body may have said why before closing the connection
                    await asyncio.wait([answer], timeout=_LAST_WORDS_SECONDS)
                    if not answer.done():
                        raise going.lost
                head = await answer
                if going.at_its_end and not sending.done():
                    await asyncio.wait([sending], timeout=_LAST_WORDS_SECONDS)
                sending.cancel()
        except BaseExceptionGroup as several:
            raise first_cause(several) from None
        return head

    async def _answer(self, url: URL, head: Head, early: bytes, stall: float, *, whole: bool) -> Answer:
        response = Response(url, head, parse_framing(head), self._reader, early)
        reader, said, buffer = open_body(response, stall=stall), bytearray(), memoryview(bytearray(16 * KIB))
        while len(said) < _MAX_BODY and (count := await reader.read_into(buffer)):
            said += buffer[:count]
        length = response.content_length
        succeeded = whole and head.status < 300  # a refusal may have come, unnoticed, before the body had gone
        self.reusable = succeeded and head.persistent and length == len(said) and len(early) <= length
        return Answer(head.status, head.headers, bytes(said))


class _OutgoingRequest:
    """A request on its way out."""

    def __init__(
        self,
        sock: ByteSocket,
        head: bytes,
        body: Upload,
        wait_for_continue: WaitForContinue | None,
    ) -> None:
        self._sock = sock
        self._head = head
        self._body = body
        self._invited = wait_for_continue
        self.continued = asyncio.Event()
        self.body_begun = False
        self.ended = False
        self.lost: OSError | None = None
        """What broke the connection meanwhile."""

    @property
    def at_its_end(self) -> bool:
        return self.body_begun and self._body.given

    async def send(self) -> None:
        try:
            await send_all(self._sock, self._head)
            if self._invited is not None:
                await self._invited(self.continued)
            self.body_begun = True
            await self._body.write_to(_SocketTarget(self._sock))
            self.ended = True
        except OSError as exc:
            self.lost = exc


class _SocketTarget:
    """See ``streams.base.Target``."""

    def __init__(self, sock: ByteSocket) -> None:
        self._sock = sock

    async def write(self, view: memoryview, /) -> None:
        await send_all(self._sock, view)

    def try_write(self, view: memoryview, /, *, within: float) -> int:
        return try_send(self._sock, view, within=within)


class ConnectionPool:
    """Connections between two uploads to the same origin, each for ``idle_seconds`` at most.

    There are never more of them than uploads were on their way at once.
    """

    def __init__(self, connect: Callable[[URL], Awaitable[ByteSocket]], *, idle_seconds: float) -> None:
        self._connect = connect
        self._idle_seconds = idle_seconds
        self._idle: dict[URL, list[_Idle]] = {}
        self._closed = False

    async def acquire(self, url: URL) -> Connection:
        """A connection to the origin of ``url``, the caller's until it is released. Raises as ``Dialer.connect``."""
        idle = self._idle.get(url.origin(), [])
        while idle:
            one = idle.pop()
            one.timer.cancel()
            if one.connection.is_quiet():
                return one.connection
            one.connection.close()
        return Connection(await self._connect(url))

    def release(self, url: URL, connection: Connection) -> None:
        """Keep ``connection`` for the next upload if it may be used again, otherwise close it."""
        if self._closed or not connection.reusable:
            connection.close()
            return
        idle = self._idle.setdefault(url.origin(), [])
        timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._expire, url.origin(), connection)
        idle.append(_Idle(connection, timer))

    def _expire(self, origin: URL, connection: Connection) -> None:
        self._idle[origin] = [one for one in self._idle[origin] if one.connection is not connection]
        connection.close()

    def close(self) -> None:
        """Close what nobody uses; what is in use is closed when it is released."""
        self._closed = True
        for one in [one for idle in self._idle.values() for one in idle]:
            one.timer.cancel()
            one.connection.close()
        self._idle.clear()


@dataclass(frozen=True, slots=True)
class _Idle:
    connection: Connection
    timer: asyncio.TimerHandle
