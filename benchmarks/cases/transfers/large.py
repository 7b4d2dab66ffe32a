"""Four times the bytes must cost four times the time and no more memory."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.readings import MIB, Contender, interleave, median, worst_of
from benchmarks.report import Report, side_by_side


async def run(bench: Bench) -> Report:
    small, big = bench.mib(1024), bench.mib(4096)
    report = Report("large", f"{big} MiB against {small} MiB, URL to S3, both lanes")
    files = {mib: await bench.source.file(mib) for mib in (small, big)}
    async with bench.store() as store, bench.server(store) as server:
        contenders: dict[str, Contender] = {
            f"{mib} MiB, {lane}": server.transfers([{"url": bench.source.url(files[mib], location)}], size=mib * MIB)
            for lane, location in (("range lane", "files"), ("buffer lane", "plain"))
            for mib in (small, big)
        }
        warm, rounds = await interleave(contenders, bench.rounds(2))
    report.tables.append(side_by_side(rounds, f"{small} MiB, range lane"))
    times = big / small
    for lane, limit in (("range lane", 10.0), ("buffer lane", 64 * MIB / 1e6)):
        one, four = f"{small} MiB, {lane}", f"{big} MiB, {lane}"
        pairs = list(zip(rounds[one], rounds[four], strict=True))
        cpu = median([(b.cpu or 0.0) / (a.cpu or 1e-9) / times for a, b in pairs])
        wall = median([b.seconds / a.seconds / times for a, b in pairs])
        report.add(f"processor time a GiB, large / small, {lane}", cpu, "x", limit=1.15)
        report.add(f"time a GiB, large / small, {lane}", wall, "x", limit=1.15)
        growth = worst_of([warm[four], *rounds[four]], lambda reading: reading.growth_mb)
        report.add(f"memory growth of {big} MiB, {lane}", growth, "MB", limit=limit)
    bench.source.forget(files[big])
    return report
