"""TLS on both sides: four passes of the cipher on the machine for each byte."""

from __future__ import annotations

import functools

from benchmarks.bench import Bench
from benchmarks.cases.transfers.to_s3 import BUFFER_MB, OURS, cost, verified
from benchmarks.peers.contenders import curl, peer
from benchmarks.readings import MIB, Contender, in_turn, interleave, ratio, worst_of
from benchmarks.report import Report, side_by_side

BUFFERED = f"{OURS}, buffer lane"


async def run(bench: Bench) -> Report:
    mib = bench.mib(1024)
    report = Report("tls", f"{mib} MiB, https URL to https S3")
    name = await bench.source.file(mib)
    url, plain = bench.source.url(name, tls=True), bench.source.url(name, "plain", tls=True)
    certificate = bench.source.certificate
    async with bench.store(tls=True) as store, bench.server(store, tls=True) as server:
        quick: dict[str, Contender] = {
            "curl": curl(url, certificate=certificate),
            OURS: server.transfers([{"url": url}], size=mib * MIB),
            BUFFERED: server.transfers([{"url": plain}], size=mib * MIB),
            "obstore": peer("obstore", url, store.url, certificate=certificate),
        }
        warm, rounds = await interleave(quick, bench.rounds(7))
        slow: dict[str, Contender] = {
            OURS: quick[OURS],
            "boto3": peer("boto3", url, store.url, certificate=certificate),
            "naive": peer("naive", url, store.url, certificate=certificate),
        }
        slow_rounds = await in_turn(slow, 1 if bench.quick else 2)
        stalls = {
            lane: await server.stalls(functools.partial(server.api.ingest, [{"url": one}]), bench.rounds(5))
            for lane, one in ((OURS, url), (BUFFERED, plain))
        }
    report.tables += [side_by_side(rounds, "curl"), side_by_side(slow_rounds, OURS)]
    report.add("time / curl -o /dev/null", ratio(rounds, OURS, "curl"), "x")
    report.add("time / obstore", ratio(rounds, OURS, "obstore"), "x", limit=1.05, goal=0.85)
    report.add("time / obstore, buffer lane", ratio(rounds, BUFFERED, "obstore"), "x")
    report.add("time / boto3", ratio(slow_rounds, OURS, "boto3"), "x")
    report.add("time / naive", ratio(slow_rounds, OURS, "naive"), "x")
    cost(report, rounds, mib, cpu_limit=4.0)
    for lane, limit in ((OURS, 10.0), (BUFFERED, BUFFER_MB)):
        readings = [warm[lane], *rounds[lane]]
        report.add(f"memory growth, {lane}", worst_of(readings, lambda one: one.growth_mb), "MB", limit=limit)
        report.stalls(lane, stalls[lane], limit=20.0)
    await verified(bench, report, "files", tls=True)
    await verified(bench, report, "plain", tls=True)
    return report
