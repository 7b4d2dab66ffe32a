"""Tickets: what a browser puts into the URL of a WebSocket or an EventSource, to which it can give no header.

A WebSocket uses its ticket up. An EventSource comes back to its URL by itself whenever its stream breaks (HTML
standard, section 9.2.3), so a ticket that opened a stream stays good for that stream alone, while it is read and for a
while after.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from mediagen.core.errors import RateLimited
from mediagen.core.keys import Caller

TICKET_SECONDS: Final = 30
"""Until a ticket is used, and until a stream that it opened is opened again."""
MAX_TICKETS: Final = 4096
"""That are not used yet, and as many that opened a stream."""
MAX_OF_ONE: Final = 64
"""Unused tickets of one caller."""


@dataclass(slots=True)
class _Stream:
    """What a ticket was used for."""

    caller: Caller
    path: str
    until: float
    """When the ticket ends, unless it is being read."""
    readers: int = 0


class Tickets:
    """Tickets that were given out. Kept as digests, so that memory does not tell them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()
        self._streams: dict[bytes, _Stream] = {}

    def issue(self, caller: Caller) -> str:
        """A ticket in the place of the caller's key, once, within ``TICKET_SECONDS``. Raises RateLimited."""
        now = self._clock()
        self._drop_old(now)
        own = sum(1 for _, other in self._open.values() if other == caller)
        if own >= MAX_OF_ONE or len(self._open) >= MAX_TICKETS:
            raise RateLimited("too many unused tickets", retry_after=TICKET_SECONDS)
        ticket = f"tk_{secrets.token_urlsafe(32)}"
        self._open[_digest(ticket)] = (now + TICKET_SECONDS, caller)
        return ticket

    def take(self, ticket: str) -> Caller | None:
        """Whose ticket it is; None: unknown, used or too old. It is used now."""
        self._drop_old(self._clock())
        found = self._open.pop(_digest(ticket), None)
        return None if found is None else found[1]

    def take_for(self, path: str, ticket: str) -> Caller | None:
        """Whose ticket it is; None: unknown, too old, or used for something else than the stream at ``path``.

        Raises RateLimited.
        """
        now, digest = self._clock(), _digest(ticket)
        self._drop_old(now)
        stream = self._streams.get(digest)
        if stream is None:
            if digest not in self._open:
                return None
            if len(self._streams) >= MAX_TICKETS:
                raise RateLimited("too many event streams were opened with tickets", retry_after=TICKET_SECONDS)
            _, caller = self._open.pop(digest)
            stream = self._streams[digest] = _Stream(caller, path, now + TICKET_SECONDS)
        return stream.caller if stream.path == path else None

    @contextmanager
    def reading(self, ticket: str) -> Iterator[None]:
        """Inside, the stream that this ticket opened is read: the ticket does not end."""
        stream = self._streams.get(_digest(ticket))
        if stream is None:
            yield
            return
        stream.readers += 1
        try:
            yield
        finally:
            stream.readers -= 1
            stream.until = self._clock() + TICKET_SECONDS

    def _drop_old(self, now: float) -> None:
        for digest in [digest for digest, each in self._streams.items() if not each.readers and each.until <= now]:
            del self._streams[digest]
        while self._open and next(iter(self._open.values()))[0] <= now:
            self._open.popitem(last=False)


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "surrogateescape")).digest()
