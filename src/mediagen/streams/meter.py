"""Counting bytes on the way."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from mediagen.core.progress import Transfer
from mediagen.streams.base import MIB

RATE_WINDOW: Final = 4.0
"""Seconds over which the rate is taken."""
_SAMPLE_SPACING: Final = 0.1


class Tally:
    """Bytes of all transfers since the process started, replays and what an earlier run had stored left out.

    Of a transfer that fails, up to the last MiB received may be missing: meters tell it at their readings.
    """

    __slots__ = ("received", "stored")

    def __init__(self) -> None:
        self.received = 0
        self.stored = 0


class Meter:
    """Two counters, one rate. Gives a reading at least once per MiB received, at every stored part and at the end.

    A thread that moves bytes counts each piece; its readings are given when it is back.

    Replays are taken back: bytes that come a second time count once. ``already`` bytes were stored by an earlier run
    of the same task; they count as done and not for the rate. ``tally`` gets what is new at each reading.
    """

    __slots__ = (
        "_clock",
        "_lock",
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
        tally: Tally | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock(), already)])
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

    def finish(self) -> None:
        """The last reading: all is stored, so the total is known."""
        self.total = self.downloaded
        self._read()

    def _tell(self, tally: Tally) -> None:
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
        samples = self._samples
        if now - samples[-1][0] >= _SAMPLE_SPACING:
            samples.append((now, self.downloaded))
            while len(samples) > 2 and now - samples[1][0] >= RATE_WINDOW:
                samples.popleft()
        started, before = samples[0]
        elapsed = now - started
        rate = max(0.0, (self.downloaded - before) / elapsed) if elapsed > 0 else 0.0
        self.readings += 1
        self._report(Transfer(self.downloaded, self.uploaded, self.total, rate))
