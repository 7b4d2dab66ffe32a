"""What time it is."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The wall clock in UTC: for what is shown, signed or expires. Limits and waits use a monotonic clock."""
    return datetime.now(UTC)
