"""Readers who all come at once, as after a restart, and then a burst of news: does anybody notice, is any cut off?"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.load.prober import probing
from benchmarks.peers.contenders import clean_environment
from benchmarks.process import BenchmarkFailure, Child, Watch
from benchmarks.report import Report, grid
from benchmarks.servers.mediagen import Server
from benchmarks.servers.source import free_port, until_open

READERS = (500, 1000, 2000)
LIVE_TASKS = 5000
BURST = 300
"""Tasks that are accepted, and as many that are cancelled, while all read."""
P99_MS = 100.0
TIMES_BARE = 5.0
"""On a machine that others use: at most so many times the p99 of a bare server in the same storm."""
SNAPSHOT_BYTES = 320_000
GROWTH_MB = 200.0
AFTERMATH_SECONDS = 5.0
"""After the last reader has its snapshot: still part of the storm, for readings go out to all of them."""
FILE_MIB = 1024
SUBMITTING_AT_ONCE = 16


async def run(bench: Bench) -> Report:
    """One server; the flocks come one after the other and stay until they were told of the burst."""
    live = LIVE_TASKS // 10 if bench.quick else LIVE_TASKS
    flocks = READERS[:1] if bench.quick else READERS
    report = Report("storm", f"{', '.join(map(str, flocks))} readers of all tasks at once, {live} tasks alive")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    url = bench.source.url(await bench.source.file(FILE_MIB), "trickle")
    settings = {"tasks": {"max_queued": 2 * LIVE_TASKS, "lanes": {"ingest": 1}}}
    lines: list[tuple[str, ...]] = []
    async with bench.server(settings=settings) as server:
        waiting = await _submitted(server, url, live)
        async with probing(f"{server.base}/livez", fresh=True) as alone:
            await asyncio.sleep(3)
        alone.tell(report, "/livez, nobody else there")
        for count in flocks:
            waiting = waiting[BURST:] + await _storm(bench, server, url, waiting[:BURST], count, report, lines)
    head = ("readers", "snapshot s, median", "longest", "KB", "facts", "all told after s", "CPU ms a reader")
    report.tables.append(grid(head, lines))
    return report


async def _storm(
    bench: Bench,
    server: Server,
    url: str,
    cancelled: list[str],
    count: int,
    report: Report,
    lines: list[tuple[str, ...]],
) -> list[str]:
    """Ids of the tasks that were made meanwhile."""
    limit = max(P99_MS, TIMES_BARE * await _bare(bench, count, report))
    watch = Watch(server.pid)
    async with _flock(bench, server.port, count) as flock:
        async with probing(f"{server.base}/livez", fresh=True) as prober:
            ready = await flock.line()
            cpu = watch.stop().cpu
            await asyncio.sleep(AFTERMATH_SECONDS)
        async with probing(f"{server.base}/livez", fresh=True) as busy:
            made = await _burst(server, url, cancelled)
            await flock.tell(made[-1])
            told = await flock.line()
    usage = watch.stop()
    lines.append(
        (
            str(count),
            f"{ready['median_seconds']:.2f}",
            f"{ready['longest_seconds']:.2f}",
            f"{ready['bytes'] / 1000:.0f}",
            str(told["facts"]),
            f"{told['late_seconds']:.2f}",
            f"{cpu / count * 1000:.2f}",
        )
    )
    prober.tell(report, f"/livez while {count} come", p99_limit=limit)
    busy.tell(report, f"/livez while {count} are told of a burst", p99_limit=limit)
    report.add(f"{count} readers: cut off", float(told["lost"]), "", limit=0.0)
    report.add(f"{count} readers: facts missing", float(told["missing"]), "", limit=0.0)
    disorder = float(told["repeated"] + told["disordered"])
    report.add(f"{count} readers: facts repeated or out of order", disorder, "", limit=0.0)
    report.add(f"{count} readers: begun anew", float(told["begun_anew"]), "", limit=0.0)
    report.add(f"{count} readers: memory growth", usage.growth_mb, "MB", limit=GROWTH_MB)
    if told["why"]:
        report.notes.append(f"{count} readers: {told['why']}")
    return made[:-1]


async def _burst(server: Server, url: str, cancelled: list[str]) -> list[str]:
    """Accept and cancel at the same time; the last task that is given was cancelled after all else."""
    async with asyncio.TaskGroup() as group:
        cancelling = group.create_task(server.api.call("POST", "/v1/tasks/cancel", {"ids": cancelled}))
        made = await _submitted(server, url, BURST)
    if not all(one["ok"] for one in cancelling.result()["data"]):
        raise BenchmarkFailure("a task could not be cancelled")
    last = await server.api.submit({"url": url})
    await server.api.call("POST", f"/v1/tasks/{last}/cancel")
    return [*made, last]


async def _submitted(server: Server, url: str, count: int) -> list[str]:
    """Ids of so many new tasks; all but the first of the server's tasks wait."""
    slots = asyncio.Semaphore(SUBMITTING_AT_ONCE)

    async def one() -> str:
        async with slots:
            return await server.api.submit({"url": url})

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(one()) for _ in range(count)]
    return [one.result() for one in asked]


async def _bare(bench: Bench, count: int, report: Report) -> float:
    """The p99 in ms of a server that does nothing else in the same storm: what this machine does to anybody."""
    port = free_port()
    argv = [sys.executable, "-m", "benchmarks.servers.bare_feed", "--port", str(port), "--bytes", str(SNAPSHOT_BYTES)]
    async with Child(argv, log=bench.work / "bare.log", env=clean_environment()) as server:
        await until_open(port, server, "the bare server")
        async with _flock(bench, port, count) as flock, probing(f"http://127.0.0.1:{port}/livez", fresh=True) as prober:
            await flock.line()
            await asyncio.sleep(AFTERMATH_SECONDS)
    prober.tell(report, f"a bare server while {count} come")
    return prober.percentile(0.99)


class _Flock:
    """A process of ``benchmarks.load.crowd``."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def line(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        text = await self._process.stdout.readline()
        if not text:
            raise BenchmarkFailure(f"the readers: {self._log.read_text(errors='replace')[-600:]}")
        said: dict[str, Any] = json.loads(text)
        return said

    async def tell(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())
        await self._process.stdin.drain()


@asynccontextmanager
async def _flock(bench: Bench, port: int, count: int) -> AsyncIterator[_Flock]:
    argv = [sys.executable, "-m", "benchmarks.load.crowd", "--port", str(port), "--count", str(count)]
    log = bench.work / "flock.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=clean_environment(),
        )
    try:
        yield _Flock(process, log)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
