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

Bodies are watched by those who read them (``bodies.Pace``): only they know whether it is the client that is waited for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias, cast

from aiohttp import web

from mediagen.web.door import ANSWERS, MAX_HEAD, Cut, Door, Refused
from mediagen.web.reader import UNSENT

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve: TypeAlias = Callable[[], asyncio.Protocol]

_REFUSED_SECONDS: Final = 2.0
_END: Final = b"\r\n\r\n"


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
        self._last = b""
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
        if not self._turned_away and not self._answering and not self._measured(data):
            self._turn_away("head")
        if self._turned_away:
            self._tell_why()
        elif self._inner is not None:
            self._inner.data_received(data)

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
        self._head = "whole"
        if not self._full:
            self._wait_for_nothing()

    def ends(self, *, body_read: bool) -> None:
        """The answer is made, even if the client has not taken all of it, nor sent all of its body."""
        self._answering = False
        self._head = "due" if body_read else "whole"  # what comes next is body that nobody wants, not a head
        if not self._full:
            self._wait_for_request()

    # -- heads

    def _measured(self, data: bytes) -> bool:
        """Whether the head, of which this may be a part, is short enough so far."""
        if self._head == "whole":
            return True
        if self._head == "due":
            self._head, self._size, self._last = "arriving", 0, b""
            self._wait_for_request()
        if not self._size:
            data = data.lstrip(b"\r\n")  # may stand before a request (RFC 9112 section 2.2)
        joined = self._last + data
        end = joined.find(_END)
        if end >= 0:
            self._head, self._last = "whole", b""
            self._size += end
        else:
            self._last = joined[1 - len(_END) :]
            self._size += len(data)
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
        return await handler(request)
    finally:
        gate.ends(body_read=request.content.is_eof())
