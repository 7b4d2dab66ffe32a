"""Token buckets by source, bounded in number."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_SOURCES: Final = 10_000


class Buckets:
    """So many a minute for each source, all at once if it has waited; a full bucket is not kept."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = float(per_minute)
        self._rate = per_minute / 60
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, source: str) -> float:
        """Seconds until the source has one again; 0: it has."""
        level = self._level(source)
        return 0.0 if level >= 1 else (1 - level) / self._rate

    def take(self, source: str) -> None:
        """One less for the source."""
        level = self._level(source) - 1
        self._levels.pop(source, None)
        self._levels[source] = (level, self._clock())
        while len(self._levels) > MAX_SOURCES:
            self._levels.popitem(last=False)

    def _level(self, source: str) -> float:
        level, at = self._levels.get(source, (self._most, self._clock()))
        return min(self._most, level + (self._clock() - at) * self._rate)


def source_of(address: str) -> str:
    """What counts as one source: an IPv4 address, the /64 of an IPv6 one (RFC 4291: one link)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
