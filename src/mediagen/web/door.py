"""How many connections there may be, and how long each may keep us waiting.

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
import json
import resource
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, Literal, TypeAlias, cast

import structlog
from aiohttp import web

from mediagen.core.errors import MediagenError, RateLimited, Unavailable
from mediagen.streams.base import KIB
from mediagen.web.origins import Origins, network_of
from mediagen.web.settings import ServerSettings

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve: TypeAlias = Callable[[], asyncio.Protocol]
Refused: TypeAlias = Literal["full", "address", "head"]
Cut: TypeAlias = Literal["head", "idle", "reader", "refused"]

MAX_HEAD: Final = 64 * KIB
"""Bytes of a head. aiohttp has limits for one line (8,190) and the number of fields (128), which make 1 MiB."""
MOST: Final = 10_000
RESERVE: Final = 64
"""Files and sockets that are not the clients': the database, the store, downloads, threads."""
UNSENT: Final = 256 * KIB
"""Bytes that wait in the kernel to be sent; what is on its way does not count, so a long line is not slowed down."""
_REFUSED_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 5
_END: Final = b"\r\n\r\n"
_LOG: Final = structlog.get_logger(__name__)


def most_connections(open_files: int) -> int:
    """Connections that a process with so many files can bear: each may need a file beside its socket."""
    if open_files == resource.RLIM_INFINITY:
        return MOST
    return max(16, min(MOST, (open_files - RESERVE) // 2))


def _answer(status: HTTPStatus, error: type[MediagenError], detail: str) -> bytes:
    """A whole answer to whoever it is, made once."""
    problem = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status,
        "detail": detail,
        "code": error.code,
        "retryable": error.retryable,
    }
    body = json.dumps(problem)
    retry = f"Retry-After: {_RETRY_SECONDS}\r\n" if error.retryable else ""
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"{retry}Connection: close\r\n\r\n{body}"
    ).encode()


_ANSWERS: Final[dict[Refused, bytes]] = {
    "full": _answer(HTTPStatus.SERVICE_UNAVAILABLE, Unavailable, "the server has as many connections as it may"),
    "address": _answer(HTTPStatus.TOO_MANY_REQUESTS, RateLimited, "too many connections from this address"),
    "head": _answer(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, MediagenError, f"the head has more than {MAX_HEAD} bytes"
    ),
}


class Door:
    """Counts connections, and refuses those that are too many.

    A refusal is an answer (503, or 429 for an address that has too many) and not a connection that nobody accepts:
    that would be a silence in which a client can only wait, and a probe cannot tell us from the dead.
    """

    def __init__(self, settings: ServerSettings, origins: Origins, *, open_files: int | None = None) -> None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if open_files is None else open_files
        bearable = most_connections(files)
        self.most: int = bearable if settings.max_connections == "auto" else settings.max_connections
        if self.most > bearable:
            _LOG.warning("too_few_open_files", max_connections=self.most, open_files=files, bearable=bearable)
        self.most_each = self.most
        if settings.max_connections_per_ip != "auto":
            self.most_each = settings.max_connections_per_ip or self.most
        elif not settings.loopback:  # where only this machine can come from, one address is everybody
            self.most_each = max(8, self.most // 2)
        self.settings = settings
        self.open = 0
        self.refused: Counter[Refused] = Counter()
        self.cut: Counter[Cut] = Counter()
        self._origins = origins
        self._each: Counter[str] = Counter()
        self._turned_away = 0
        self._most_turned_away = max(16, self.most // 8)

    def enter(self, address: str) -> Refused | None:
        """Let a connection in, or say why not. What was let in must ``leave``."""
        network = network_of(address)
        if self.open >= self.most:
            return "full"
        if self._each[network] >= self.most_each and not self._origins.trusts(address):
            return "address"
        self.open += 1
        self._each[network] += 1
        return None

    def leave(self, address: str) -> None:
        """A connection that was let in has ended."""
        network = network_of(address)
        self.open -= 1
        self._each[network] -= 1
        if not self._each[network]:
            del self._each[network]

    def turn_away(self, why: Refused) -> bool:
        """Whether there is room for telling a connection why it is refused; then it must ``gone``."""
        self.refused[why] += 1
        if self._turned_away >= self._most_turned_away:
            return False
        self._turned_away += 1
        return True

    def gone(self) -> None:
        """One that was turned away has gone."""
        self._turned_away -= 1


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
        self._refusal = _ANSWERS[why]
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
