"""How far a piece of work has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal["download", "upload"]


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes on the move. Unknown is None, never 0; the two counters are never averaged.

    ``downloaded`` counts bytes that came from the source, ``uploaded`` bytes that the store has acknowledged. Bytes
    that had to be sent again count once. ``bytes_per_second`` is measured over the last few seconds and leaves out
    what an earlier run of the task already had.
    """

    downloaded: int
    uploaded: int
    total: int | None
    bytes_per_second: float

    @property
    def stage(self) -> Stage:
        """``download`` while bytes come in, ``upload`` when only the store's answers are outstanding."""
        return "upload" if self.total is not None and self.downloaded >= self.total else "download"

    @property
    def done(self) -> int:
        """Bytes done in the present stage."""
        return self.uploaded if self.stage == "upload" else self.downloaded

    @property
    def remaining_seconds(self) -> float | None:
        """Estimate from the present rate; None when the total or the rate is not known."""
        if self.total is None or self.bytes_per_second <= 0:
            return None
        return max(0.0, (self.total - self.uploaded) / self.bytes_per_second)

    @property
    def percent(self) -> int | None:
        """0-99 while it runs (100 is said only by a completed task); None without a total."""
        if self.total is None:
            return None
        return 99 if self.total == 0 else min(99, self.downloaded * 100 // self.total)


@dataclass(frozen=True, slots=True)
class Progress:
    """One reading of a running task. ``percent`` None: it cannot be known."""

    phase: str
    percent: int | None = None
    transfer: Transfer | None = None
    remaining_seconds: float | None = None


Report: TypeAlias = Callable[[Progress], None]
"""Takes a reading; never waits, never fails."""
