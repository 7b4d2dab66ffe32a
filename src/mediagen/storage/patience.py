"""A deadline for the store alone: while a part's source keeps it waiting, the clock stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mediagen.streams.base import Body, View


class TimedBody:
    """A body that adds up the seconds for which it has waited for its source."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._clock = asyncio.get_running_loop().time
        self._waited = 0.0
        self._since: float | None = None

    @property
    def waited(self) -> float:
        return self._waited + (0.0 if self._since is None else self._clock() - self._since)

    def __len__(self) -> int:
        return len(self._body)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._body.seek(offset, whence)

    def tell(self) -> int:
        return self._body.tell()

    def read(self, size: int = -1, /) -> bytes:
        return self._body.read(size)

    async def __aiter__(self) -> AsyncIterator[View]:
        chunks = aiter(self._body)
        while True:
            self._since = self._clock()
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            finally:
                self._waited += self._clock() - self._since
                self._since = None
            yield chunk


@asynccontextmanager
async def patience(seconds: float, body: TimedBody | None = None) -> AsyncIterator[None]:
    """Raise TimeoutError once the block has taken ``seconds``, without the time that ``body`` waited for its source."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    timer: asyncio.TimerHandle | None = None
    async with asyncio.timeout(None) as limit:

        def look() -> None:
            nonlocal timer
            left = end + (body.waited if body else 0.0) - loop.time()
            if left > 0:
                timer = loop.call_later(left, look)
            else:
                limit.reschedule(loop.time())

        look()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
