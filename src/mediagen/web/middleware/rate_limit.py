"""How many requests a caller may make: token buckets, one for each network and one for each key.

A bucket holds as many tokens as a minute allows, and a new one comes every ``60 / limit`` seconds: a page that loads
everything at once is not punished, a loop without a pause is. The clock is monotonic. Buckets are few: those that are
full again are forgotten, and the one that was used longest ago makes room when there are too many.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiohttp import web

from mediagen.core.errors import RateLimited
from mediagen.pipelines.settings import LimitsSettings
from mediagen.web.http.forwarded import Forwarded, network_of
from mediagen.web.middleware.probes import HEALTH_PATHS

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Clock: TypeAlias = Callable[[], float]

MAX_SOURCES: Final = 50_000
"""Buckets that are remembered; about 10 MB."""

RATE_HEADERS: Final = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
"""OpenAI's names: the clients and gateways of that API read them. The headers of the IETF draft
(draft-ietf-httpapi-ratelimit-headers) have changed their syntax from version to version, so few read them."""

_MINUTE: Final = 60.0
_ROUNDING: Final = 1e-6
_FORGOTTEN_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Reading:
    """What is left of a bucket: tokens of ``limit``, and the seconds until it is full."""

    limit: int
    remaining: int
    full_in: float


class Buckets:
    """One bucket for each source. ``per_minute`` 0: no limit."""

    def __init__(self, per_minute: int, *, clock: Clock = time.monotonic, most: int = MAX_SOURCES) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._most = most
        self._full_at: OrderedDict[str, float] = OrderedDict()
        """The moment at which a bucket is full again says all (GCRA, ITU-T I.371): one number for each source."""

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, source: str) -> tuple[Reading, float]:
        """Take a token: what is left, and the seconds to wait; above 0 there was none and nothing was taken."""
        now = self._clock()
        cost = _MINUTE / self.per_minute
        used = self._used(source, now)
        wait = self._short(used)
        if wait:
            self._full_at.move_to_end(source)
            return Reading(self.per_minute, 0, used), wait
        used += cost
        self._full_at[source] = now + used
        self._full_at.move_to_end(source)
        self._forget(now)
        return Reading(self.per_minute, int((_MINUTE - used + _ROUNDING) / cost), used), 0.0

    def wait(self, source: str) -> float:
        """Seconds until there is a token; 0: there is one. Takes none."""
        return self._short(self._used(source, self._clock()))

    def _used(self, source: str, now: float) -> float:
        """What is gone of the bucket, as seconds until it is full."""
        return max(0.0, self._full_at.get(source, now) - now)

    def _short(self, used: float) -> float:
        wait = used + _MINUTE / self.per_minute - _MINUTE
        return wait if wait > _ROUNDING else 0.0

    def _forget(self, now: float) -> None:
        for _ in range(_FORGOTTEN_AT_ONCE):
            source, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= self._most:
                return
            del self._full_at[source]


_READING: Final = web.RequestKey("rate", Reading)


class Rates:
    """The limits of ``limits.requests_per_minute`` and ``limits.requests_per_minute_per_ip``, applied to requests.

    A feed counts once, when it is opened. Health routes are not counted.
    """

    def __init__(
        self, settings: LimitsSettings, forwarded: Forwarded, *, base_path: str, clock: Clock = time.monotonic
    ) -> None:
        self._forwarded = forwarded
        self._uncounted = frozenset(base_path + path for path in HEALTH_PATHS)
        self._networks = Buckets(settings.requests_per_minute_per_ip, clock=clock)
        self._keys = Buckets(settings.requests_per_minute, clock=clock)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request for its caller's network, before anything that costs more. Raises RateLimited."""
        if self._networks.per_minute and request.path not in self._uncounted:
            self._count(request, self._networks, network_of(self._forwarded.client(request)), "this address")
        return await handler(request)

    def check_key(self, request: web.Request, key_id: str) -> None:
        """Count a request for the key that it came with, once that is known to be good. Raises RateLimited."""
        if self._keys.per_minute and request.path not in self._uncounted:
            self._count(request, self._keys, key_id, "this key")

    def _count(self, request: web.Request, buckets: Buckets, source: str, whose: str) -> None:
        reading, wait = buckets.take(source)
        known = request.get(_READING)
        if known is None or reading.remaining <= known.remaining:
            request[_READING] = reading
        if wait:
            raise RateLimited(f"{whose} may make {buckets.per_minute} requests a minute", retry_after=wait)

    async def add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Tell the caller how much is left, of the limit that is nearer; ``app.on_response_prepare``."""
        reading = request.get(_READING)
        if reading is not None:
            values = (str(reading.limit), str(reading.remaining), f"{math.ceil(reading.full_in)}s")
            response.headers.update(zip(RATE_HEADERS, values, strict=True))
