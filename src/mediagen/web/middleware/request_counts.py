"""What happened since the start, counted as it happens: answers given, tasks ended.

Counting is a look-up in a dictionary and an addition, a microsecond or two. All labels come from closed sets: route
templates, methods, classes of status, kinds and error codes. What is in none of them shares one label.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from aiohttp import web

from mediagen.web.middleware.probes import WATCHED_PATHS

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the buckets of durations, in seconds."""

UNMATCHED: Final = "unmatched"
OTHER: Final = "other"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_GONE: Final = 499


class Timing:
    """Durations of one route: their sum in seconds and how many fell into each bucket, the last one without end."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Traffic:
    """Counts requests by route template, method and class of status, and how long their handlers took.

    Not timed: what monitors ask (a check of a dead store takes its limit, and no caller waits for that), and feeds,
    which last for as long as somebody listens.
    """

    def __init__(self, *, base_path: str) -> None:
        self._base_path = base_path
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.timings: dict[tuple[str, str], Timing] = {}

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        status, timed = _CLIENT_GONE, True
        try:
            response = await handler(request)
            status, timed = response.status, not _is_feed(response)
        finally:
            self.count(self._template(request), request.method, status, time.perf_counter() - began if timed else None)
        return response

    def count(self, route: str, method: str, status: int, seconds: float | None) -> None:
        """Take in one answer; ``seconds`` None: its time says nothing."""
        method = method if method in _METHODS else OTHER
        self.requests[route, method, f"{status // 100}xx"] += 1
        if seconds is not None and route not in WATCHED_PATHS:
            timing = self.timings.get((route, method))
            if timing is None:
                timing = self.timings[route, method] = Timing()
            timing.add(seconds)

    def _template(self, request: web.Request) -> str:
        resource = request.match_info.route.resource
        return UNMATCHED if resource is None else resource.canonical.removeprefix(self._base_path)


def _is_feed(response: web.StreamResponse) -> bool:
    return isinstance(response, web.WebSocketResponse) or response.content_type == "text/event-stream"
