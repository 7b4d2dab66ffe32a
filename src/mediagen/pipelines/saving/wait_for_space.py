"""Waits for space in the store, so that paid results are not lost to a full disk."""

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
    """Whether there can ever be enough space for the request."""
    limit, wanted = full.context.get("limit"), full.context.get("wanted")
    return not (isinstance(limit, int) and isinstance(wanted, int) and wanted > limit)


async def until_space(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat ``call`` while there is no space for it; only cancellation ends the wait.

    Raises:
        StorageFull: the store may never hold as much.
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
