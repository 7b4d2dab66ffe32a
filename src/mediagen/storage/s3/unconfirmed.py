"""Requests that the store may still carry out: on their way, or ended without an answer.

To leave a request proves nothing. The store may have read all of it and be slow to act: the object or the upload then
appears after whatever was done to remove it.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

REMEMBERED_SECONDS: Final = 1200.0
"""Longer than a store takes over anything: completing a large upload may take it ten minutes."""


class UnconfirmedRequests:
    """The keys of such requests, as far as this process made them. Bounded by age."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running: Counter[str] = Counter()
        self._unheard: OrderedDict[str, float] = OrderedDict()

    @contextmanager
    def during(self, key: str | None) -> Iterator[None]:
        """A call about ``key``, with all its tries; None: one that creates nothing."""
        if key is None:
            yield
            return
        self._running[key] += 1
        try:
            yield
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]

    def unheard(self, key: str) -> None:
        """A request about ``key`` ended, and nobody knows whether the store carries it out."""
        now = self._clock()
        self._unheard[key] = now
        self._unheard.move_to_end(key)
        while now - next(iter(self._unheard.values())) > REMEMBERED_SECONDS:
            self._unheard.popitem(last=False)

    def __contains__(self, key: str) -> bool:
        since = self._unheard.get(key)
        return key in self._running or (since is not None and self._clock() - since <= REMEMBERED_SECONDS)
