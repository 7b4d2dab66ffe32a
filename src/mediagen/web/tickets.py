"""One-use tickets: what a browser puts into the URL of a WebSocket, to which it can give no header."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from mediagen.core.errors import RateLimited
from mediagen.core.keys import Caller

TICKET_SECONDS: Final = 30
MAX_TICKETS: Final = 4096
MAX_OF_ONE: Final = 64
"""Unused tickets of one caller."""


class Tickets:
    """Tickets that were given out and not used. Kept as digests, so that memory does not tell them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    def issue(self, caller: Caller) -> str:
        """A ticket in the place of the caller's key, once, within ``TICKET_SECONDS``. Raises RateLimited."""
        now = self._clock()
        self._drop_old(now)
        own = sum(1 for _, other in self._open.values() if other == caller)
        if own >= MAX_OF_ONE or len(self._open) >= MAX_TICKETS:
            raise RateLimited("too many tickets were asked for and not used", retry_after=TICKET_SECONDS)
        ticket = f"tk_{secrets.token_urlsafe(32)}"
        self._open[_digest(ticket)] = (now + TICKET_SECONDS, caller)
        return ticket

    def take(self, ticket: str) -> Caller | None:
        """Whose ticket it is; None: unknown, used or too old. It is used now."""
        self._drop_old(self._clock())
        found = self._open.pop(_digest(ticket), None)
        return None if found is None else found[1]

    def _drop_old(self, now: float) -> None:
        while self._open and next(iter(self._open.values()))[0] <= now:
            self._open.popitem(last=False)


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "surrogateescape")).digest()
