"""A picture as base64 in a provider's answer: our decoding beside the fastest decoder alone, and the whole way."""

from __future__ import annotations

import json
import sys
import time

from benchmarks.bench import Bench
from benchmarks.peers.contenders import clean_environment
from benchmarks.process import BenchmarkFailure, Watch
from benchmarks.process import run as command
from benchmarks.readings import MIB, Reading, Rounds, median, worst_of
from benchmarks.report import Report, side_by_side
from benchmarks.servers.mediagen import Server
from benchmarks.servers.vendor import PICTURE_HEAD, Vendor, write_text

ALONE = ("pybase64, whole", "pybase64, in pieces")


async def run(bench: Bench) -> Report:
    """Speeds are of text: what is decoded is three quarters of it."""
    mib = bench.mib(200)
    report = Report("base64-answer", f"{mib} MiB of base64 in the answer of a provider of pictures")
    size = mib * MIB // 4 * 3
    document = await write_text(
        bench.work / "picture.json", PICTURE_HEAD, size, b'{"created":1,"data":[{"b64_json":"', b'"}]}'
    )
    argv = [sys.executable, "-m", "benchmarks.peers.base64_decoding", "--document", str(document)]
    argv += ["--rounds", str(bench.rounds(7))]
    told = json.loads((await command(argv, env=clean_environment())).stdout)
    rounds: Rounds = {name: [Reading(*one) for one in found] for name, found in told["rounds"].items()}
    settings = {"limits": {"image_bytes": size}}
    async with (
        Vendor(bench.work, picture_json=document) as vendor,
        bench.server(settings={**settings, **vendor.settings()}) as server,
    ):
        whole_way = [await _made(server, size) for _ in range(1 + bench.rounds(3))]
    document.unlink()
    report.tables.append("In memory:\n\n" + side_by_side(rounds, ALONE[0]))
    fastest = [min(pair, key=lambda one: one.seconds) for pair in zip(*(rounds[name] for name in ALONE), strict=True)]
    slower = median([mine.seconds / best.seconds for mine, best in zip(rounds["ours"], fastest, strict=True)])
    report.add("time of our decoding / of the fastest decoder alone", slower, "x", limit=2.0)
    for what, seconds in (
        ("the fastest decoder alone", [one.seconds for one in fastest]),
        ("our decoding", [one.seconds for one in rounds["ours"]]),
        ("from the call to the answer, kept on disk (in shared memory)", [one.seconds for one in whole_way[1:]]),
    ):
        report.add(f"speed, {what}", told["characters"] / 1e6 / median(seconds), "MB/s of text")
    report.add("memory growth of the server", worst_of(whole_way, lambda one: one.growth_mb), "MB")
    return report


async def _made(server: Server, size: int) -> Reading:
    watch, began = Watch(server.pid), time.perf_counter()
    answer = await server.api.call("POST", "/v1/images/generations", {"model": "text", "prompt": "fox"})
    seconds, usage = time.perf_counter() - began, watch.stop()
    task = await server.api.call("GET", f"/v1/tasks/{answer['task_id']}")
    found = task["result"]["files"][0]["bytes"]
    if found != size:
        raise BenchmarkFailure(f"stored {found} of {size} bytes")
    await server.api.forget([task])
    return Reading(seconds, usage.cpu, usage.growth_mb)
