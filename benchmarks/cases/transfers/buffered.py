"""Streamed against buffered: what memory and time cost when a server holds the whole object instead."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.cases.transfers.to_s3 import OURS
from benchmarks.peers.contenders import peer
from benchmarks.readings import MIB, Contender, interleave, median, worst_of
from benchmarks.report import Report, grid

RANGE, BUFFER = f"{OURS}, range lane", f"{OURS}, buffer lane"
NAIVE, WHOLE = "8 MiB parts, naively", "whole object in memory"
GROWTH_MB = 50.0
"""Requirement: growth under 50 MB for a 1 GB object."""


async def run(bench: Bench) -> Report:
    sizes = [64, 256] if bench.quick else [64, 256, 1024]
    report = Report("streamed-vs-buffered", "memory growth and time by size, URL to S3")
    lines: list[tuple[str, ...]] = []
    for mib in sizes:
        name = await bench.source.file(mib)
        url, plain = bench.source.url(name), bench.source.url(name, "plain")
        async with bench.store() as store, bench.server(store) as server:
            contenders: dict[str, Contender] = {
                RANGE: server.transfers([{"url": url}], size=mib * MIB),
                BUFFER: server.transfers([{"url": plain}], size=mib * MIB),
                NAIVE: peer("naive", url, store.url),
                WHOLE: peer("buffered", url, store.url),
            }
            warm, rounds = await interleave(contenders, bench.rounds(1))
        for who in contenders:
            grown = worst_of([warm[who], *rounds[who]], lambda reading: reading.growth_mb)
            seconds = median([reading.seconds for reading in rounds[who]])
            lines.append((f"{mib} MiB: {who}", f"{grown or 0:.1f}", f"{seconds:.2f}"))
            if who == RANGE and mib == sizes[-1]:
                report.add(f"memory growth of {mib} MiB, streamed", grown, "MB", limit=GROWTH_MB)
            if who == WHOLE and mib == sizes[-1]:
                report.add(f"memory growth of {mib} MiB, buffered", grown, "MB")
    report.tables.append(grid(("", "growth MB", "s"), lines))
    return report
