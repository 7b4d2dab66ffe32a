"""What a monitor sees while eight large transfers go on at once: uploads, downloads by URL, and files taken out."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.load.prober import probing
from benchmarks.peers.contenders import clean_environment
from benchmarks.process import BenchmarkFailure, Watch
from benchmarks.process import run as command
from benchmarks.readings import MIB
from benchmarks.report import Report
from benchmarks.servers.mediagen import Server

UPLOADS, FORMS, INGESTS, TAKEN = 2, 1, 3, 2
P99_MS = 50.0


async def run(bench: Bench) -> Report:
    """All begin together and the prober asks until the last one has ended."""
    mib = bench.mib(1024)
    report = Report("busy", f"/readyz during {UPLOADS + FORMS + INGESTS + TAKEN} transfers at once of {mib} MiB each")
    name = await bench.source.file(mib)
    path, url = bench.source.path(name), bench.source.url(name)
    async with bench.server() as server:
        stored = await _upload(server, path, as_form=False, size=mib * MIB)
        watch = Watch(server.pid)
        async with probing(f"{server.base}/readyz") as prober:
            await _all_at_once(server, path, url, stored, mib * MIB)
        usage, lag = watch.stop(), await server.stall_ms()
    prober.tell(report, "/readyz", p99_limit=P99_MS)
    report.add("longest stall of the event loop, as the server saw it", lag, "ms")
    report.add("memory growth", usage.growth_mb, "MB")
    report.add("processor time", usage.cpu, "s")
    report.add("all of them", usage.seconds, "s")
    return report


async def _all_at_once(server: Server, path: Path, url: str, stored: str, size: int) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(server.api.ingest([{"url": url}] * INGESTS))
        for number in range(UPLOADS + FORMS):
            group.create_task(_upload(server, path, as_form=number >= UPLOADS, size=size))
        for _ in range(TAKEN):
            group.create_task(_take(server, stored, size))


async def _upload(server: Server, path: Path, *, as_form: bool, size: int) -> str:
    """Id of the file that an upload by curl made."""
    sent = ["-F", f"file=@{path}"] if as_form else ["-X", "POST", "-T", str(path)]
    argv = ["curl", "-sS", "--fail-with-body", "-H", "Expect:", *sent, f"{server.base}/v1/files"]
    file = json.loads((await command(argv, env=clean_environment())).stdout)
    if file["bytes"] != size:
        raise BenchmarkFailure(f"stored {file['bytes']} of {size} bytes")
    return str(file["id"])


async def _take(server: Server, file_id: str, size: int) -> None:
    url = f"{server.base}/v1/files/{file_id}/content"
    argv = ["curl", "-sS", "--fail", "-o", os.devnull, "-w", "%{size_download}", url]
    if int((await command(argv, env=clean_environment())).stdout) != size:
        raise BenchmarkFailure("a file was not taken out as a whole")
