"""An ordinary client: one request after the other, each timed, while something else goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from benchmarks.process import BenchmarkFailure
from benchmarks.report import Report

SPACING = 0.02


class Prober:
    """What each request took, in ms."""

    def __init__(self, url: str, *, fresh: bool) -> None:
        self._url = url
        self._fresh = fresh
        self.took_ms: list[float] = []

    async def run(self) -> None:
        """Ask until cancelled, fifty times a second at most.

        Raises:
            BenchmarkFailure: the server failed, or did not answer within ten seconds.
        """
        connector = aiohttp.TCPConnector(force_close=self._fresh)
        limits = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(connector=connector, timeout=limits) as session:
            while True:
                began = time.perf_counter()
                async with session.get(self._url) as reply:
                    await reply.read()
                    if reply.status != 200:
                        raise BenchmarkFailure(f"{self._url}: {reply.status} in the middle of it")
                took = time.perf_counter() - began
                self.took_ms.append(took * 1000)
                await asyncio.sleep(max(0.0, SPACING - took))

    def percentile(self, share: float) -> float:
        """In ms."""
        ordered = sorted(self.took_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def tell(
        self, report: Report, what: str, *, p99_limit: float | None = None, max_limit: float | None = None
    ) -> None:
        """Add the rows of its figures."""
        if not self.took_ms:
            raise BenchmarkFailure(f"{what}: nothing was answered")
        report.add(f"{what}, median of {len(self.took_ms)}", self.percentile(0.5), "ms")
        report.add(f"{what}, p99", self.percentile(0.99), "ms", limit=p99_limit)
        report.add(f"{what}, longest", max(self.took_ms), "ms", limit=max_limit)


@asynccontextmanager
async def probing(url: str, *, fresh: bool = False) -> AsyncIterator[Prober]:
    """A prober that runs while the context is open; ``fresh``: each request opens a connection."""
    prober = Prober(url, fresh=fresh)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(prober.run())
        yield prober
        running.cancel()
