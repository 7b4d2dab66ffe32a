"""Progress as a reader of the feed sees it: fine enough, and not too often."""

from __future__ import annotations

import asyncio
import itertools

from benchmarks.api import DEADLINE, ENDED, Api, Told
from benchmarks.bench import Bench
from benchmarks.process import BenchmarkFailure
from benchmarks.readings import MIB
from benchmarks.report import Report

SLOW_MIB, FAST_MIB = 10, 256


async def run(bench: Bench) -> Report:
    """A trickle shows how finely bytes are counted, a fast transfer how often readings are sent."""
    report = Report("progress", "readings of the feed of one task")
    async with bench.store() as store, bench.server(store) as server:
        slow = await _readings(bench, server.api, await bench.source.file(SLOW_MIB), "trickle")
        fast = await _readings(bench, server.api, await bench.source.file(FAST_MIB), "slow")
    done = [told.task["transfer"]["bytes_done"] for told in slow if told.task["transfer"]["stage"] == "download"]
    if len(done) < 3:
        raise BenchmarkFailure(f"only {len(done)} readings of {SLOW_MIB} MiB at 2 MiB/s")
    steps = [after - before for before, after in itertools.pairwise(done)]
    # 1 MiB is what is counted to, a piece of the socket's what may come on top
    report.add("largest step between two readings at 2 MiB/s", max(steps) / MIB, "MiB", limit=1.25, goal=1.0)
    # the last one goes out at once, before the state that ends the task: it is told on top of the others
    report.add("readings of a task", _mean_rate(fast[:-1]), "1/s", limit=10.0)
    # stamped when they are rendered: a reading that was late makes room for one more
    report.add("readings of a task within one second, most", float(_most_in_a_second(fast)), "", limit=11.0)
    backwards = sum(1 for step in steps if step < 0)
    report.add("readings that went backwards", float(backwards), "", limit=0.0)
    return report


async def _readings(bench: Bench, api: Api, name: str, location: str) -> list[Told]:
    """All progress events of one transfer."""
    told: list[Told] = []
    async with api.feed() as feed, asyncio.timeout(DEADLINE):
        task_id = await api.submit({"url": bench.source.url(name, location)})
        while True:
            one = await feed.next()
            if one.task["id"] != task_id:
                continue
            if one.type == "task.progress" and one.task["transfer"] is not None:
                told.append(one)
            if one.task["status"] in ENDED:
                if one.task["status"] != "completed":
                    raise BenchmarkFailure(f"task {one.task['status']}: {one.task['error']}")
                await api.forget([one.task])
                return told


def _most_in_a_second(told: list[Told]) -> int:
    """Most events whose stamps (``elapsed_seconds``, made by the server) lie within one second."""
    stamps = [one.task["elapsed_seconds"] for one in told]
    return max(sum(1 for other in stamps if stamp <= other < stamp + 0.999) for stamp in stamps)


def _mean_rate(told: list[Told]) -> float:
    stamps = [one.task["elapsed_seconds"] for one in told]
    span = stamps[-1] - stamps[0]
    return float((len(stamps) - 1) / span) if span > 0 else 0.0
