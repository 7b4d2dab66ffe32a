"""How many connections there may be, and what is said to those that are too many.

A refusal is an answer (503, or 429 for an address that has too many) and not a connection that nobody accepts: that
would be a silence in which a client can only wait, and a probe cannot tell us from the dead.
"""

from __future__ import annotations

import json
import resource
from collections import Counter
from http import HTTPStatus
from typing import Final, Literal, TypeAlias

import structlog

from mediagen.core.errors import InvalidRequest, MediagenError, RateLimited, Unavailable
from mediagen.streams.base import KIB
from mediagen.web.http.forwarded import Forwarded, network_of
from mediagen.web.settings import ServerSettings

Refused: TypeAlias = Literal["full", "address", "head"]
Cut: TypeAlias = Literal["head", "idle", "reader", "refused"]

MAX_HEAD: Final = 64 * KIB
"""Bytes of a head. aiohttp has limits for one line (8,190) and the number of fields (128), which make 1 MiB."""
MOST: Final = 10_000
RESERVE: Final = 64
"""Files and sockets that are not the clients': the database, the store, downloads, threads."""
_RETRY_SECONDS: Final = 5
_LOG: Final = structlog.get_logger(__name__)


def most_connections(open_files: int) -> int:
    """Connections that a process with so many files can bear: each may need a file beside its socket."""
    if open_files == resource.RLIM_INFINITY:
        return MOST
    return max(16, min(MOST, (open_files - RESERVE) // 2))


def _problem(status: HTTPStatus, error: type[MediagenError], detail: str) -> bytes:
    problem = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status,
        "detail": detail,
        "code": error.code,
        "retryable": error.retryable,
    }
    return json.dumps(problem).encode()


def _answer(status: HTTPStatus, body: bytes) -> bytes:
    """A whole answer to whoever it is, made once."""
    retry = f"Retry-After: {_RETRY_SECONDS}\r\n" if status in _LATER else ""
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"{retry}Connection: close\r\n\r\n"
    ).encode() + body


_FULL: Final = HTTPStatus.SERVICE_UNAVAILABLE
_ADDRESS: Final = HTTPStatus.TOO_MANY_REQUESTS
_HEAD: Final = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
_LATER: Final = frozenset({_FULL, _ADDRESS})
PROBLEMS: Final[dict[Refused, tuple[HTTPStatus, bytes]]] = {
    "full": (_FULL, _problem(_FULL, Unavailable, "the server has as many connections as it may")),
    "address": (_ADDRESS, _problem(_ADDRESS, RateLimited, "too many connections from this address")),
    "head": (_HEAD, _problem(_HEAD, InvalidRequest, f"the head has more than {MAX_HEAD} bytes")),
}
"""Status and body (RFC 9457) of each refusal."""
ANSWERS: Final[dict[Refused, bytes]] = {why: _answer(*said) for why, said in PROBLEMS.items()}


class Door:
    """Counts connections, and refuses those that are too many."""

    def __init__(self, settings: ServerSettings, forwarded: Forwarded, *, open_files: int | None = None) -> None:
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
        self._forwarded = forwarded
        self._each: Counter[str] = Counter()
        self._turned_away = 0
        self._most_turned_away = max(16, self.most // 8)

    def enter(self, address: str) -> Refused | None:
        """Let a connection in, or say why not. What was let in must ``leave``."""
        network = network_of(address)
        if self.open >= self.most:
            return "full"
        if self._each[network] >= self.most_each and not self._forwarded.trusts(address):
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
