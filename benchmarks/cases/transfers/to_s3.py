"""One large object from a URL into S3, against curl and against what other libraries need for it."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.peers.contenders import curl, peer
from benchmarks.process import BenchmarkFailure
from benchmarks.readings import (
    GIB,
    MIB,
    Contender,
    Reading,
    Rounds,
    in_turn,
    interleave,
    median_of,
    ratio,
    worst_of,
)
from benchmarks.report import Report, side_by_side

OURS = "mediagen"
BUFFER_MB = 64 * MIB / 1e6
"""``storage.buffer_bytes`` at its default: the memory that the buffer lane may take, shared by all transfers."""


async def range_lane(bench: Bench) -> Report:
    """The source gives length, Range and a validator: parts are downloads, nothing is buffered."""
    mib = bench.mib(1024)
    report = Report("s3", f"{mib} MiB, URL to S3, range lane")
    name = await bench.source.file(mib)
    url = bench.source.url(name)
    async with bench.store() as store, bench.server(store) as server:
        ours = server.transfers([{"url": url}], size=mib * MIB)
        quick: dict[str, Contender] = {
            "curl": curl(url),
            OURS: ours,
            "obstore": peer("obstore", url, store.url),
            "relay": peer("relay", url, store.url),
            "relay, CRC": peer("relay", url, store.url, crc=True),
        }
        warm, rounds = await interleave(quick, bench.rounds(7))
        slow: dict[str, Contender] = {
            OURS: ours,
            "obstore, signed": peer("obstore", url, store.url, signed=True),
            "boto3": peer("boto3", url, store.url),
            "naive": peer("naive", url, store.url),
        }
        slow_rounds = await in_turn(slow, 1 if bench.quick else 2)
        stalls = await server.stalls(lambda: server.api.ingest([{"url": url}]), bench.rounds(5))
    report.tables += [side_by_side(rounds, "curl"), side_by_side(slow_rounds, OURS)]
    report.add("time / curl -o /dev/null", ratio(rounds, OURS, "curl"), "x", limit=1.5, goal=1.2)
    report.add("time / obstore", ratio(rounds, OURS, "obstore"), "x", limit=1.05, goal=0.85)
    report.add("time / bare sockets", ratio(rounds, OURS, "relay"), "x")
    report.add("bare sockets / curl -o /dev/null", ratio(rounds, "relay", "curl"), "x")
    report.add("bare sockets and CRC / curl -o /dev/null", ratio(rounds, "relay, CRC", "curl"), "x")
    report.add("time / boto3", ratio(slow_rounds, OURS, "boto3"), "x")
    report.add("time / naive", ratio(slow_rounds, OURS, "naive"), "x")
    cost(report, rounds, mib, cpu_limit=1.0, cpu_goal=0.7)
    growth(report, warm[OURS], rounds, limit=10.0, goal=5.0)
    report.stalls("one transfer", stalls, limit=20.0)
    await verified(bench, report, "files")
    return report


async def buffer_lane(bench: Bench) -> Report:
    """The source gives a length and nothing else: parts are filled from the one connection that there is."""
    mib = bench.mib(1024)
    report = Report("s3-buffer", f"{mib} MiB, URL to S3, buffer lane")
    url = bench.source.url(await bench.source.file(mib), "plain")
    async with bench.store() as store, bench.server(store) as server:
        contenders: dict[str, Contender] = {
            "curl": curl(url),
            OURS: server.transfers([{"url": url}], size=mib * MIB),
            "obstore": peer("obstore", url, store.url),
            "relay": peer("relay", url, store.url, in_flight=1),
        }
        warm, rounds = await interleave(contenders, bench.rounds(5))
        stalls = await server.stalls(lambda: server.api.ingest([{"url": url}]), bench.rounds(5))
    report.tables.append(side_by_side(rounds, "curl"))
    report.add("time / curl -o /dev/null", ratio(rounds, OURS, "curl"), "x", limit=1.7)
    report.add("time / obstore", ratio(rounds, OURS, "obstore"), "x")
    report.add("time / bare sockets, one at a time", ratio(rounds, OURS, "relay"), "x")
    report.add("bare sockets, one at a time / curl -o /dev/null", ratio(rounds, "relay", "curl"), "x")
    cost(report, rounds, mib)
    growth(report, warm[OURS], rounds, limit=BUFFER_MB)
    report.stalls("one transfer", stalls, limit=20.0)
    await verified(bench, report, "plain")
    return report


def cost(
    report: Report, rounds: Rounds, mib: int, *, cpu_limit: float | None = None, cpu_goal: float | None = None
) -> None:
    """Processor seconds of the server for each GiB."""
    used = median_of(rounds[OURS], lambda reading: reading.cpu)
    per_gib = None if used is None else used * GIB / (mib * MIB)
    report.add("processor time", per_gib, "s/GiB", limit=cpu_limit, goal=cpu_goal)


def growth(report: Report, first: Reading, rounds: Rounds, *, limit: float, goal: float | None = None) -> None:
    """Peak over resident memory: the first transfer of the process, and the worst of those after it."""
    report.add("memory growth, first transfer", first.growth_mb, "MB", limit=limit, goal=goal)
    worst = worst_of(rounds[OURS], lambda reading: reading.growth_mb)
    report.add("memory growth, later ones", worst, "MB", limit=limit, goal=goal)


async def verified(bench: Bench, report: Report, location: str, *, tls: bool = False) -> None:
    """Store a smaller file for real and compare its SHA-256: what is quick must also be right.

    Raises:
        BenchmarkFailure: the store has other bytes than the source.
    """
    name = await bench.source.file(64)
    async with bench.store(keep=True, tls=tls) as store, bench.server(store, tls=tls) as server:
        await server.api.ingest([{"url": bench.source.url(name, location, tls=tls)}])
        stats = await store.stats()
    expected = (64 * MIB, await bench.source.sha256(name))
    if expected not in stats.objects.values():
        raise BenchmarkFailure(f"the store has {stats.objects}, the source {expected}")
    report.notes.append("64 MiB into a store that keeps them: SHA-256 equal")
