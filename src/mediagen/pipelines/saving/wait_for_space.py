"""Waiting for room in the store: what was paid for is not thrown away because the disk is full."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from mediagen.core.errors import StorageFull

log = structlog.get_logger(__name__)

T = TypeVar("T")

RETRY_SECONDS: Final = 1.0


def may_have_space(full: StorageFull) -> bool:
    """Whether there can ever be as much room as was asked for."""
    limit, wanted = full.context.get("limit"), full.context.get("wanted")
    return not (isinstance(limit, int) and isinstance(wanted, int) and wanted > limit)


async def until_space(call: Callable[[], Awaitable[T]]) -> T:
    """What ``call`` gives, repeated while there is no room for it; the caller's cancellation is the only limit.

    Raises:
        StorageFull: more was asked for than the store may ever hold.
    """
    failures = 0
    while True:
        try:
            return await call()
        except StorageFull as exc:
            if not may_have_space(exc):
                raise
            failures += 1
            (log.warning if failures == 1 else log.debug)("upload_waits_for_room", reason=exc.detail, failures=failures)
            await asyncio.sleep(RETRY_SECONDS)
