"""Counting bytes on the way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from mediagen.core.progress import Transfer
from mediagen.streams.base import MIB

RATE_WINDOW: Final = 4.0
"""Seconds over which the rate is taken."""
STALL_SECONDS: Final = 2.0
"""Without a byte for so long, the rate is 0."""
TICK_SECONDS: Final = 0.5
"""How often a transfer is looked at whose bytes come slowly, or not at all."""
_SAMPLE_SPACING: Final = 0.1


class TransferTotals:
    """Bytes of all transfers since the process started, replays and what an earlier run had stored left out.

    Of a transfer that fails, up to the last MiB received may be missing: meters tell it at their readings.
    """

    __slots__ = ("received", "stored")

    def __init__(self) -> None:
        self.received = 0
        self.stored = 0


class Meter:
    """Two counters, one rate. Gives a reading at least once per MiB received, at every stored part and at the end.

    Inside ``ticking`` also at least once a second while bytes come, however few, and once more with a rate of 0 when
    none have come for ``STALL_SECONDS``. A thread that moves bytes counts each piece.

    Replays are taken back: bytes that come a second time count once. ``already`` bytes were stored by an earlier run
    of the same task; they count as done and not for the rate. ``tally`` gets what is new at each reading.
    """

    __slots__ = (
        "_clock",
        "_last",
        "_lock",
        "_moved",
        "_next",
        "_report",
        "_samples",
        "_tally",
        "_told_received",
        "_told_stored",
        "already",
        "downloaded",
        "readings",
        "total",
        "uploaded",
    )

    def __init__(
        self,
        report: Callable[[Transfer], None],
        *,
        total: int | None,
        already: int = 0,
        tally: TransferTotals | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._clock = clock
        self._samples: deque[tuple[float, int, int]] = deque([(clock(), already, already)])
        self._moved = clock()
        self._last: Transfer | None = None
        self._next = already + MIB
        self._lock = threading.Lock()
        self._tally = tally
        self._told_received = already
        self._told_stored = already
        self.already = already
        self.total = total
        self.downloaded = already
        self.uploaded = already
        self.readings = 0

    def count(self, count: int) -> None:
        """``count`` bytes came from the source. For any thread; gives no reading."""
        with self._lock:
            self.downloaded += count

    def look(self) -> None:
        """Give a reading when a MiB has come since the last one."""
        if self.downloaded >= self._next:
            self._next = self.downloaded + MIB
            self._read()

    def receive(self, count: int) -> None:
        """``count`` bytes came from the source; negative: that many will come again."""
        self.count(count)
        if count < 0:
            self._next = self.downloaded
        self.look()

    def store(self, count: int) -> None:
        """The store has acknowledged ``count`` bytes more."""
        self.uploaded += count
        self._read()

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Look at the counters every ``TICK_SECONDS`` meanwhile. In the event loop's thread."""
        loop = asyncio.get_running_loop()

        def look() -> None:
            timers.append(loop.call_later(TICK_SECONDS, look))
            self.tick()

        timers = deque([loop.call_later(TICK_SECONDS, look)], maxlen=1)
        try:
            yield
        finally:
            timers[0].cancel()

    def tick(self) -> None:
        """Give a reading when it says something new, if only that nothing comes any more."""
        last = self._last
        news = last is None or (last.downloaded, last.uploaded) != (self.downloaded, self.uploaded)
        stalls = last is not None and last.bytes_per_second and self._clock() - self._moved >= STALL_SECONDS
        if news or stalls:
            self._read()

    def finish(self) -> None:
        """The last reading: all is stored, so the total is known."""
        self.total = self.downloaded
        self._read()

    def _tell(self, tally: TransferTotals) -> None:
        received, stored = self.downloaded, self.uploaded
        # what will come again made the counts fall: it is told when they are past where they were
        tally.received += max(0, received - self._told_received)
        tally.stored += max(0, stored - self._told_stored)
        self._told_received = max(received, self._told_received)
        self._told_stored = max(stored, self._told_stored)

    def _read(self) -> None:
        if self._tally is not None:
            self._tell(self._tally)
        now = self._clock()
        before = self._last
        if before is None or (before.downloaded, before.uploaded) != (self.downloaded, self.uploaded):
            self._moved = now
        samples = self._samples
        if now - samples[-1][0] >= _SAMPLE_SPACING:
            samples.append((now, self.downloaded, self.uploaded))
            while len(samples) > 2 and now - samples[1][0] >= RATE_WINDOW:
                samples.popleft()
        self.readings += 1
        self._last = Transfer(self.downloaded, self.uploaded, self.total, self._rate(now))
        self._report(self._last)

    def _rate(self, now: float) -> float:
        """Bytes a second of the present stage: those that come in, or, when all are here, those that are stored."""
        started, downloaded, uploaded = self._samples[0]
        elapsed = now - started
        if elapsed <= 0 or now - self._moved >= STALL_SECONDS:
            return 0.0
        storing = self.total is not None and self.downloaded >= self.total and self.uploaded < self.total
        return max(0.0, (self.uploaded - uploaded if storing else self.downloaded - downloaded) / elapsed)
