"""Between each transport and aiohttp's protocol: how long a connection may keep us waiting.

aiohttp waits for ever for a reader that does not read, and has one limit for two things (a head that arrives, a
connection that idles). So a gate stands between each transport and aiohttp's protocol. It passes on all that it is
told, and watches four waits, one at a time:

| what we wait for        | how long            | begins with                                  |
|-------------------------|---------------------|----------------------------------------------|
| the head of a request   | header_seconds      | the connection; later the head's first byte  |
| the next request        | keepalive_seconds   | the end of an answer                         |
| the reader of an answer | body_idle_seconds   | a transport that says that it is full        |
| one that was refused    | 2 s                 | its connection                               |

The length of a head is watched here while the head is not whole, and once it is, before its request is served: it can
come whole at one time. What is a head and what a body only the parser knows, so the gate asks it: as long as it has
found a request that is not answered yet, what comes is that request's body, or is pipelined behind it.

Bodies are watched by those who read them (``bodies.Pace``): only they know whether it is the client that is waited for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias, cast

from aiohttp import web

from mediagen.web.http.connection_limits import ANSWERS, MAX_HEAD, PROBLEMS, Cut, Door, Refused
from mediagen.web.http.response_writer import UNSENT

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve: TypeAlias = Callable[[], asyncio.Protocol]

_REFUSED_SECONDS: Final = 2.0
_PUNCTUATION: Final = 4
"""Bytes of a field's line beside its name and value: a colon, a blank, the line's end."""


class Gate(asyncio.Protocol):
    """Stands before the protocol of one connection. ``serve`` makes that protocol."""

    def __init__(self, door: Door, serve: Serve) -> None:
        self._door = door
        self._serve = serve
        self._settings = door.settings
        self._address = ""
        self._inner: asyncio.Protocol | None = None
        self._refusal = b""
        self._turned_away = False
        self._answering = False
        self._full = False
        self._head: Literal["due", "arriving", "whole"] = "arriving"
        self._size = 0
        self._answered = 0
        self._owed = 0
        self._timer: asyncio.TimerHandle | None = None

    # -- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else ""
        refused = self._door.enter(self._address)
        if refused is not None:
            self._turn_away(refused)
            return
        # what a slow reader leaves lying would fill megabytes of kernel memory before we noticed that he is slow
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self._inner = self._serve()
        self._wait_for("head", self._settings.header_seconds)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None and not self._turned_away:
            self._inner.data_received(data)
            if self._awaits_head() and not self._measured(len(data)):
                self._turn_away("head")
        if self._turned_away:
            self._tell_why()

    def eof_received(self) -> bool | None:
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        self._full = True
        if not self._turned_away:
            self._wait_for("reader", self._settings.body_idle_seconds)
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._full = False
        self._wait_for_request()
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_for_nothing()
        if self._turned_away:
            self._door.gone()
        if self._inner is not None:
            self._door.leave(self._address)
            self._inner.connection_lost(exc)

    def serves(self, protocol: object) -> bool:
        """Whether this is the protocol behind the gate."""
        return self._inner is protocol

    # -- what the application tells

    def begins(self) -> None:
        """The head of a request is here, and its answer is being made."""
        self._answering = True
        self._head, self._size = "whole", 0
        if not self._full:
            self._wait_for_nothing()

    def ends(self, *, body_read: bool) -> None:
        """The answer is made, even if the client has not taken all of it, nor sent all of its body."""
        self._answering = False
        self._head = "due" if body_read else "whole"  # what comes next is body that nobody wants, not a head
        if not self._full:
            self._wait_for_request()

    def answered(self) -> None:
        """The answer has been written to its end, as far as it goes."""
        self._answered += 1

    def refuse_head(self) -> web.Response:
        """The answer to a request whose head came whole and is too long."""
        self._door.refused["head"] += 1
        status, problem = PROBLEMS["head"]
        response = web.Response(status=status, body=problem, content_type="application/problem+json")
        response.force_close()
        return response

    # -- heads

    def _awaits_head(self) -> bool:
        """Whether all that came up to now is answered, but for the beginning of a head."""
        # the number of requests that the parser has found; aiohttp says it nowhere in public
        found = cast(web.RequestHandler, self._inner)._request_count  # noqa: SLF001
        return found == self._answered and self._head != "whole" and not self._answering

    def _measured(self, size: int) -> bool:
        """Whether the head, of which so many bytes are a part, is short enough so far."""
        if self._head == "due":
            self._head, self._size = "arriving", 0
            self._wait_for_request()
        self._size += size
        return self._size <= MAX_HEAD

    # -- refusals

    def _turn_away(self, why: Refused) -> None:
        if not self._door.turn_away(why):
            self._transport.abort()
            return
        self._turned_away = True
        self._refusal = ANSWERS[why]
        self._wait_for("refused", _REFUSED_SECONDS)

    def _tell_why(self) -> None:
        """Answer once something was asked: clients do not expect an answer before, and some lose it then."""
        if self._refusal and not self._transport.is_closing():
            self._transport.write(self._refusal)
            self._transport.write_eof()
        self._refusal = b""

    # -- waiting

    def _wait_for_request(self) -> None:
        if self._turned_away:
            return
        if self._answering:
            self._wait_for_nothing()
        elif self._head == "arriving":
            self._wait_for("head", self._settings.header_seconds)
        else:
            self._wait_for("idle", self._settings.keepalive_seconds)

    def _wait_for(self, what: Cut, seconds: float) -> None:
        self._wait_for_nothing()
        self._owed = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._over, what, seconds)

    def _wait_for_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self, what: Cut, seconds: float) -> None:
        """The wait is over. Whoever took enough of what we still owe him gets as much time again."""
        owed = self._transport.get_write_buffer_size()
        taken = self._owed - owed
        least = min(self._owed, self._settings.body_minimum_bytes_per_second * seconds)
        if owed and taken > 0 and taken >= least and what != "refused":
            self._wait_for(what, seconds)
            return
        self._door.cut[what] += 1
        self._transport.abort()


@web.middleware
async def attended(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the gate of the connection when a request begins and ends."""
    gate = None if request.transport is None else request.transport.get_protocol()
    if not isinstance(gate, Gate):
        return await handler(request)
    gate.begins()
    try:
        if _length(request) > MAX_HEAD:
            return gate.refuse_head()
        return await handler(request)
    finally:
        gate.ends(body_read=request.content.is_eof())


def answered(request: web.BaseRequest) -> None:
    """Tell the gate of the connection that a request is answered, also one that never reached the application."""
    gate = None if request.transport is None else request.transport.get_protocol()
    if isinstance(gate, Gate):
        gate.answered()


def _length(request: web.Request) -> int:
    """Bytes of the head of ``request``, nearly."""
    fields = sum(len(name) + len(value) for name, value in request.raw_headers)
    return len(request.raw_path) + fields + _PUNCTUATION * len(request.raw_headers)
