"""TLS on the side of the source alone: what a download by https costs beside the same one by http."""

from __future__ import annotations

import functools

from benchmarks.bench import Bench
from benchmarks.cases.transfers.to_s3 import BUFFER_MB, OURS, cost
from benchmarks.peers.contenders import curl, peer
from benchmarks.readings import MIB, Contender, interleave, ratio, worst_of
from benchmarks.report import Report, side_by_side

BUFFERED = f"{OURS}, buffer lane"
PLAIN = f"{OURS}, http"


async def run(bench: Bench) -> Report:
    mib = bench.mib(512)
    report = Report("tls-source", f"{mib} MiB, https URL to S3")
    name = await bench.source.file(mib)
    url, plain = bench.source.url(name, tls=True), bench.source.url(name, "plain", tls=True)
    async with bench.store() as store, bench.server(store, tls=True) as server:
        contenders: dict[str, Contender] = {
            "curl": curl(url, certificate=bench.source.certificate),
            OURS: server.transfers([{"url": url}], size=mib * MIB),
            BUFFERED: server.transfers([{"url": plain}], size=mib * MIB),
            PLAIN: server.transfers([{"url": bench.source.url(name)}], size=mib * MIB),
            "obstore": peer("obstore", url, store.url, certificate=bench.source.certificate),
        }
        warm, rounds = await interleave(contenders, bench.rounds(5))
        stalls = {
            lane: await server.stalls(functools.partial(server.api.ingest, [{"url": one}]), bench.rounds(3))
            for lane, one in ((OURS, url), (BUFFERED, plain))
        }
    report.tables.append(side_by_side(rounds, "curl"))
    report.add("time / curl -o /dev/null", ratio(rounds, OURS, "curl"), "x")
    report.add("time / the same by http", ratio(rounds, OURS, PLAIN), "x")
    report.add("time / obstore", ratio(rounds, OURS, "obstore"), "x", limit=1.05)
    report.add("time / obstore, buffer lane", ratio(rounds, BUFFERED, "obstore"), "x")
    cost(report, rounds, mib)
    for name, limit in ((OURS, 10.0), (BUFFERED, BUFFER_MB)):
        readings = [warm[name], *rounds[name]]
        report.add(f"memory growth, {name}", worst_of(readings, lambda one: one.growth_mb), "MB", limit=limit)
        report.stalls(name, stalls[name], limit=20.0)
    return report
