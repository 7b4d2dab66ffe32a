"""Work for a thread that nobody may be ahead of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final, TypeVar

from mediagen.streams.base import KIB

T = TypeVar("T")

PAUSE: Final = 0.002
"""Seconds for which a thread waits for its source or target; what takes longer is waited for by the event loop."""
_STRETCH_SECONDS: Final = 0.05
_SCANT: Final = 64 * KIB
_TRIES: Final = 3


class Burst:
    """How long a thread goes on: as long as bytes come plentifully, and not so long that nobody hears of them."""

    def __init__(self) -> None:
        self._until = time.monotonic() + _STRETCH_SECONDS

    def goes_on(self, count: int) -> bool:
        """Whether to go on after ``count`` bytes at a time."""
        return count >= _SCANT and time.monotonic() < self._until


class SerialExecutor:
    """Runs one call at a time in a thread. Whoever asked for it goes on only after it has ended.

    A call cannot be stopped from outside, and it uses sockets and buffers that its caller would close or use again once
    it is cancelled: so also the cancelled caller stays until the call is over. Calls must therefore be short.
    """

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._running: asyncio.Future[Any] | None = None
        self._in_vain = 0

    @property
    def pays(self) -> bool:
        """Whether threads have been of use of late: behind a proxy they never are."""
        return self._in_vain < _TRIES

    def moved(self, count: int) -> None:
        """Say how many bytes a call has moved."""
        self._in_vain = 0 if count else self._in_vain + 1

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        running = self.begin(call, *args)
        await self.ended()
        return running.result()

    def begin(self, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Begin a call when the last one has ended. Its result counts only after ``ended``."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, call, *args)
        self._running = running
        return running

    async def ended(self) -> None:
        """Return when nothing runs any more; a cancellation in the meantime is passed on then."""
        cancelled: asyncio.CancelledError | None = None
        while self._running is not None and not self._running.done():
            try:
                await asyncio.wait([self._running])
            except asyncio.CancelledError as exc:
                cancelled = exc
        if cancelled is not None:
            raise cancelled
