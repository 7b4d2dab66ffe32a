"""From the wish to cancel until nothing is left of the transfer."""

from __future__ import annotations

import asyncio
import time

from benchmarks.api import DEADLINE, ENDED, Api
from benchmarks.bench import Bench
from benchmarks.process import BenchmarkFailure
from benchmarks.readings import MIB
from benchmarks.report import Report
from benchmarks.servers.mediagen import Server
from benchmarks.servers.store import Store

CLEAN_SECONDS = 1.0
ABORT_MS = 50.0


async def run(bench: Bench) -> Report:
    """Cancelled in the middle, several times, with parts in flight."""
    report = Report("cancel", "cancel in the middle of a transfer")
    name = await bench.source.file(bench.mib(1024))
    times = bench.rounds(5)
    async with bench.store() as store, bench.server(store) as server:
        for lane, location in (("range lane", "slow"), ("buffer lane", "plain")):
            url = bench.source.url(name, location)
            ends = [await _cancelled(server, url, store) for _ in range(times)]
            report.add(
                f"cancel to clean, S3, {lane}, worst of {times}", max(end for end, _ in ends), "s", limit=CLEAN_SECONDS
            )
            report.add(
                f"cancel to the store's abort, S3, {lane}, worst of {times}",
                max(abort for _, abort in ends) * 1000,
                "ms",
                limit=ABORT_MS,
            )
    async with bench.server() as server:
        before = server.files()
        ends = [await _cancelled(server, bench.source.url(name, "slow"), None) for _ in range(times)]
        left = server.files() - before
        report.add(
            f"cancel to clean, local disk, worst of {times}", max(end for end, _ in ends), "s", limit=CLEAN_SECONDS
        )
        report.add("files left behind", float(len(left)), "", limit=0.0)
    return report


async def _cancelled(server: Server, url: str, store: Store | None) -> tuple[float, float]:
    """Seconds from the cancel call to the end of the task, and to the abort that the store saw.

    Raises:
        BenchmarkFailure: an upload is still open when the task is told to have ended.
    """
    if store is not None:
        await store.stats(clear=True)
    api = server.api
    async with api.feed() as feed, asyncio.timeout(DEADLINE):
        task_id = await api.submit({"url": url})
        while True:
            told = await feed.next()
            transfer = told.task["transfer"]
            if told.task["id"] == task_id and transfer is not None and transfer["bytes_done"] >= 24 * MIB:
                break
            if told.task["id"] == task_id and told.task["status"] in ENDED:
                raise BenchmarkFailure("the transfer ended before it could be cancelled")
        began, stamp = time.perf_counter(), time.monotonic()
        await _ask(api, task_id)
        while True:
            told = await feed.next()
            if told.task["id"] == task_id and told.task["status"] in ENDED:
                break
    if told.task["status"] != "cancelled":
        raise BenchmarkFailure(f"the task is {told.task['status']}, not cancelled")
    if store is None:
        return told.at - began, 0.0
    stats = await store.stats()
    if stats.open_uploads or stats.open_parts or stats.objects or stats.aborted_at is None:
        raise BenchmarkFailure(f"not clean when told to be cancelled: {stats}")
    return told.at - began, stats.aborted_at - stamp


async def _ask(api: Api, task_id: str) -> None:
    await api.call("POST", f"/v1/tasks/{task_id}/cancel")
