"""Hundreds of clients that hold on to their connections, and an ordinary one among them."""

from __future__ import annotations

import asyncio
import io
import resource
from contextlib import AsyncExitStack

from benchmarks.bench import Bench
from benchmarks.load.prober import probing
from benchmarks.load.slow_clients import Act, Crowd, crowded, slow_head, slow_json, slow_reader, slow_upload
from benchmarks.process import BenchmarkFailure, Watch
from benchmarks.readings import MIB
from benchmarks.report import Report, grid
from benchmarks.servers.mediagen import Server

EACH = 500
MAX_MS = 1000.0
GROWTH_MB = 150.0
"""Half of it are the part buffers that slow uploads hold (``storage.buffer_bytes``)."""


async def run(bench: Bench) -> Report:
    """All kinds at once, for longer than any of them may keep the server waiting; limits at their defaults."""
    report = Report("slow", f"an ordinary request among {EACH} slow connections of each kind")
    raise_open_files()
    seconds = 15 if bench.quick else 60
    async with bench.server() as server, AsyncExitStack() as stack:
        kinds = await kinds_of_slow(server, EACH)
        watch = Watch(server.pid)
        crowds = {
            name: await stack.enter_async_context(crowded(server.port, act, count))
            for name, (act, count) in kinds.items()
        }
        await asyncio.sleep(3)
        async with probing(f"{server.base}/v1/tasks", fresh=True) as prober:
            open_at_most = await _watched(crowds, seconds)
        usage = watch.stop()
        refused = {name: crowd.ended for name, crowd in crowds.items()}
    lines = [(name, str(kinds[name][1]), str(open_at_most[name]), str(refused[name])) for name in kinds]
    report.tables.append(grid(("", "clients", "open at once", "thrown out or refused"), lines))
    prober.tell(report, "a request on a new connection", max_limit=MAX_MS)
    report.add("memory growth", usage.growth_mb, "MB", limit=GROWTH_MB)
    report.add("server's processor share", usage.cpu / usage.seconds * 100, "%")
    async with bench.server() as idle, probing(f"{idle.base}/v1/tasks", fresh=True) as alone:
        await asyncio.sleep(5)
    alone.tell(report, "the same, nobody else there")
    return report


async def kinds_of_slow(server: Server, each: int) -> dict[str, tuple[Act, int]]:
    """What slow clients do, and how many do it: ``each`` of heads, of bodies, of readers."""
    return {
        "head that never ends": (slow_head, each),
        "JSON, a byte a second": (slow_json, each // 2),
        "upload, a byte a second": (slow_upload, each - each // 2),
        "reader of a file": (slow_reader(await _stored(server)), each // 2),
        "reader of JSON": (slow_reader("/openapi.json"), each - each // 2),
    }


async def _watched(crowds: dict[str, Crowd], seconds: int) -> dict[str, int]:
    """The most that were open at once, of each kind."""
    most = dict.fromkeys(crowds, 0)
    for _ in range(seconds):
        await asyncio.sleep(1)
        for name, crowd in crowds.items():
            most[name] = max(most[name], crowd.open)
    return most


async def _stored(server: Server) -> str:
    """Path of the content of a file of 16 MiB."""
    async with server.api.session.post(f"{server.base}/v1/files", data=io.BytesIO(bytes(16 * MIB))) as reply:
        if reply.status != 201:
            raise BenchmarkFailure(f"POST /v1/files: {reply.status}")
        return f"/v1/files/{(await reply.json())['id']}/content"


def raise_open_files() -> None:
    """As many sockets as this process may have at most."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
