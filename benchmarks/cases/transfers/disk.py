"""From a URL onto local disk: in memory, so that software alone counts, and on a real disk."""

from __future__ import annotations

import functools
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.cases.transfers.to_s3 import BUFFER_MB, OURS, cost, growth
from benchmarks.peers.contenders import curl
from benchmarks.readings import GIB, MIB, Contender, interleave, median_of, ratio
from benchmarks.report import Report, side_by_side
from benchmarks.servers.mediagen import Server


async def run(bench: Bench) -> Report:
    mib = bench.mib(1024)
    report = Report("disk", f"{mib} MiB, URL to local disk")
    name = await bench.source.file(mib)
    for place, root in (("shared memory", bench.work), ("a real disk", bench.disk)):
        await _place(bench, report, place, root, name, mib)
    return report


async def _place(bench: Bench, report: Report, place: str, root: Path, name: str, mib: int) -> None:
    url, plain = bench.source.url(name), bench.source.url(name, "plain")
    async with Server(root) as server:
        contenders: dict[str, Contender] = {
            "curl -o file, synced": curl(url, to=root / "curl.bin"),
            OURS: server.transfers([{"url": url}], size=mib * MIB),
            f"{OURS}, buffer lane": server.transfers([{"url": plain}], size=mib * MIB),
        }
        warm, rounds = await interleave(contenders, bench.rounds(3))
        stalls = [
            await server.stalls(functools.partial(server.api.ingest, [{"url": one}]), bench.rounds(3))
            for one in (url, plain)
        ]
    report.tables.append(f"In {place}:\n\n" + side_by_side(rounds, "curl -o file, synced"))
    report.add(
        f"time / curl -o file, in {place}", ratio(rounds, OURS, "curl -o file, synced"), "x", limit=1.5, goal=1.2
    )
    report.add(
        f"time / curl -o file, buffer lane, in {place}",
        ratio(rounds, f"{OURS}, buffer lane", "curl -o file, synced"),
        "x",
        limit=1.7,
    )
    if root == bench.work:
        cost(report, rounds, mib, cpu_limit=1.0, cpu_goal=0.7)
        theirs = median_of(rounds["curl -o file, synced"], lambda reading: reading.cpu)
        report.add("processor time of curl -o file", None if theirs is None else theirs * GIB / (mib * MIB), "s/GiB")
        growth(report, warm[OURS], rounds, limit=10.0, goal=5.0)
        buffered = [warm[f"{OURS}, buffer lane"], *rounds[f"{OURS}, buffer lane"]]
        report.add("memory growth, buffer lane", max(one.growth_mb or 0.0 for one in buffered), "MB", limit=BUFFER_MB)
    for lane, found in zip(("range lane", "buffer lane"), stalls, strict=True):
        report.stalls(f"{lane}, {place}", found, limit=20.0)
