"""Many transfers at once in one process: memory and stalls must not multiply."""

from __future__ import annotations

import functools

from benchmarks.bench import Bench
from benchmarks.cases.transfers.to_s3 import BUFFER_MB, OURS
from benchmarks.readings import MIB, Reading, Rounds, median_of, worst_of
from benchmarks.report import Report, grid

AT_ONCE = 32


async def run(bench: Bench) -> Report:
    """Each lane on a fresh server; the first round counts too, for memory is worst while it is new."""
    mib = bench.mib(64)
    report = Report("many", f"{AT_ONCE} transfers at once of {mib} MiB each, URL to S3")
    name = await bench.source.file(mib)
    rounds: Rounds = {}
    stalls: dict[str, list[float]] = {}
    for lane, location in (("range lane", "files"), ("buffer lane", "plain")):
        bodies = [{"url": bench.source.url(name, location)}] * AT_ONCE
        async with bench.store() as store, bench.server(store) as server:
            go = server.transfers(bodies, size=mib * MIB)
            rounds[f"{OURS}, {lane}"] = [await go() for _ in range(bench.rounds(3) + 1)]
            stalls[lane] = await server.stalls(functools.partial(server.api.ingest, bodies), bench.rounds(3))
    report.tables.append(_table(rounds))
    for lane, limit in (("range lane", 50.0), ("buffer lane", BUFFER_MB + 20)):
        readings = rounds[f"{OURS}, {lane}"]
        report.add(f"memory growth, {lane}", worst_of(readings, lambda one: one.growth_mb), "MB", limit=limit)
        report.stalls(lane, stalls[lane], limit=50.0)
        used = median_of(readings, lambda one: one.cpu)
        report.add(f"processor time, {lane}", None if used is None else used * 1024 / (AT_ONCE * mib), "s/GiB")
    return report


def _table(rounds: Rounds) -> str:
    def line(name: str, reading: Reading, number: int) -> tuple[str, ...]:
        return (
            f"{name}, round {number}",
            f"{reading.seconds:.2f}",
            f"{reading.cpu or 0:.2f}",
            f"{reading.growth_mb or 0:.1f}",
        )

    lines = [line(name, one, number) for name, readings in rounds.items() for number, one in enumerate(readings, 1)]
    return grid(("", "s", "CPU s", "growth MB"), lines)
