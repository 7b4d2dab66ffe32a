"""What is left of a crowd of slow connections when it has gone, and whether it becomes more from crowd to crowd."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from benchmarks.bench import Bench
from benchmarks.cases.slow import kinds_of_slow, raise_open_files
from benchmarks.load.slow_clients import crowded
from benchmarks.process import memory_mb
from benchmarks.report import Report, grid

EACH = 600
ROUNDS = 5
MAX_CREEP_MB = 10.0
"""Between the first crowd and the last. A leak of 2 kB for each connection would be more."""
_REST_SECONDS = 6


async def run(bench: Bench) -> Report:
    """Crowds of 1,800 one after another on one server, all gone in between; limits at their defaults."""
    report = Report("slow-rounds", f"memory at rest between crowds of {3 * EACH} slow connections")
    raise_open_files()
    seconds = 15 if bench.quick else 45
    at_rest: list[float] = []
    lines: list[tuple[str, str, str]] = []
    async with bench.server() as server:
        kinds = await kinds_of_slow(server, EACH)
        before = memory_mb(server.pid, "VmRSS")
        for number in range(1, bench.rounds(ROUNDS) + 1):
            async with AsyncExitStack() as stack:
                for act, count in kinds.values():
                    await stack.enter_async_context(crowded(server.port, act, count))
                await asyncio.sleep(seconds)
                during = memory_mb(server.pid, "VmRSS")
            await asyncio.sleep(_REST_SECONDS)
            at_rest.append(memory_mb(server.pid, "VmRSS"))
            lines.append((str(number), f"{during:.0f}", f"{at_rest[-1]:.0f}"))
    report.tables.append(grid(("crowd", "resident, MB", "after it, MB"), lines))
    report.add("kept after the first crowd", at_rest[0] - before, "MB")
    report.add("more after the last than after the first", at_rest[-1] - at_rest[0], "MB", limit=MAX_CREEP_MB)
    return report
