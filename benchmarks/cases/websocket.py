"""Thousands of subscribers of one hot task, some of them dead: how late a reading comes to the others."""

from __future__ import annotations

import asyncio
import json
import resource
import sys

from benchmarks.bench import Bench
from benchmarks.peers.contenders import clean_environment
from benchmarks.process import BenchmarkFailure, Watch
from benchmarks.report import Report

SUBSCRIBERS = 5000
DEAD_SHARE = 0.02
P99_MS = 150.0
FILE_MIB = 1024
"""At four connections of 8 MiB/s a transfer of half a minute that has news ten times a second."""


async def run(bench: Bench) -> Report:
    seconds = 4.0 if bench.quick else 8.0
    dead = round(SUBSCRIBERS * DEAD_SHARE)
    report = Report("websocket", f"{SUBSCRIBERS} subscribers of one task at 10 Hz, {dead} of them never read")
    _raise_open_files()
    name = await bench.source.file(FILE_MIB)
    async with bench.store() as store, bench.server(store) as server:
        task_id = await server.api.submit({"url": bench.source.url(name, "slow")})
        argv = [sys.executable, "-m", "benchmarks.load.subscribers", "--port", str(server.port), "--task", task_id]
        argv += ["--count", str(SUBSCRIBERS), "--dead", str(DEAD_SHARE), "--seconds", str(seconds)]
        log = bench.work / "subscribers.log"
        with log.open("wb") as errors:  # a pipe that nobody reads would stop them
            load = await asyncio.create_subprocess_exec(
                *argv, stdout=asyncio.subprocess.PIPE, stderr=errors, env=clean_environment()
            )
        try:
            assert load.stdout is not None
            async with asyncio.timeout(120):
                connected = await load.stdout.readline()
                watch = Watch(server.pid)
                out, _ = await load.communicate()
        finally:
            if load.returncode is None:
                load.terminate()
                await load.wait()
        usage = watch.stop()
        task = await server.api.call("GET", f"/v1/tasks/{task_id}")
        if load.returncode or not out:
            raise BenchmarkFailure(f"subscribers: {log.read_text(errors='replace')[-600:]}")
        if task["status"] != "running":
            raise BenchmarkFailure(f"the transfer was {task['status']} before the measurement ended")
        await server.api.call("POST", f"/v1/tasks/{task_id}/cancel")
    told, ready = json.loads(out.splitlines()[-1]), json.loads(connected)
    report.add("publish to receipt, p99", told["p99_ms"], "ms", limit=P99_MS)
    report.add("publish to receipt, median", told["p50_ms"], "ms")
    report.add("publish to receipt, worst", told["max_ms"], "ms")
    report.add("mean time between readings", 1000 / max(0.001, told["published_second"]), "ms", limit=115.0)
    report.add("readings received by each living client", told["per_client_second"], "1/s")
    report.add("living clients that got less than one a second", float(told["starved"]), "", limit=0.0)
    report.add("living clients cut off", float(told["closed"]), "", limit=0.0)
    report.add("server's processor share, transfer included", usage.cpu / usage.seconds * 100, "%")
    report.add("server's memory growth while publishing", usage.growth_mb, "MB")
    report.add("time to connect all", ready["seconds"], "s")
    return report


def _raise_open_files() -> None:
    """Let this process and its children have as many sockets as the system allows.

    Raises:
        BenchmarkFailure: the system allows too few.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < SUBSCRIBERS + 500:
        raise BenchmarkFailure(f"only {most} open files are allowed: raise `ulimit -Hn` to {SUBSCRIBERS + 500} or more")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
