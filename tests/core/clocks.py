"""A wall clock that can be set and a steady one that only passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from mediagen.core.clock import Clock


@dataclass
class Times:
    """What time it is; both in the test's hands."""

    wall: datetime = field(default_factory=lambda: datetime.now(UTC))
    steady: float = 1000.0

    def clock(self, **given: Any) -> Clock:
        return Clock(wall=lambda: self.wall, steady=lambda: self.steady, **given)

    def pass_by(self, **time: float) -> None:
        """Let time pass on both."""
        passed = timedelta(**time)
        self.wall += passed
        self.steady += passed.total_seconds()

    def set(self, **step: float) -> None:
        """Set the wall clock forward, or back."""
        self.wall += timedelta(**step)
