"""A store far away: every answer late, every connection slow; parallel connections decide, buffers must not."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.cases.transfers.to_s3 import OURS, cost
from benchmarks.peers.contenders import peer
from benchmarks.readings import MIB, Contender, interleave, median_of, ratio, worst_of
from benchmarks.report import Report, side_by_side

LATENCY_MS = 60.0
CONNECTION_MBPS = 80.0
BEST_PEER = "obstore, 12 in flight"


async def run(bench: Bench) -> Report:
    mib = bench.mib(512)
    report = Report("remote", f"{mib} MiB to an S3 with {LATENCY_MS:g} ms and {CONNECTION_MBPS:g} MB/s a connection")
    url = bench.source.url(await bench.source.file(mib))
    async with bench.store(remote=(LATENCY_MS, CONNECTION_MBPS)) as store, bench.server(store) as server:
        contenders: dict[str, Contender] = {
            OURS: server.transfers([{"url": url}], size=mib * MIB),
            BEST_PEER: peer("obstore", url, store.url, in_flight=12),
            "obstore, 16 in flight": peer("obstore", url, store.url, in_flight=16),
        }
        warm, rounds = await interleave(contenders, bench.rounds(3))
        stalls = await server.stalls(lambda: server.api.ingest([{"url": url}]), bench.rounds(3))
    report.tables.append(side_by_side(rounds, BEST_PEER))
    report.add("time / obstore", ratio(rounds, OURS, BEST_PEER), "x", limit=0.8)
    ours = worst_of([warm[OURS], *rounds[OURS]], lambda reading: reading.growth_mb)
    theirs = median_of(rounds[BEST_PEER], lambda reading: reading.growth_mb)
    share = None if ours is None or not theirs else ours / theirs
    report.add("memory growth / obstore", share, "x", limit=0.1)
    cost(report, rounds, mib)
    report.stalls("one transfer", stalls, limit=20.0)
    return report
