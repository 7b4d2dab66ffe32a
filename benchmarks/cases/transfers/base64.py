"""Base64 inside JSON, decoded while it arrives: out of a vendor's answer, and in the body of our own call."""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path

from benchmarks.api import Ended
from benchmarks.bench import Bench
from benchmarks.cases.transfers.to_s3 import OURS
from benchmarks.peers.contenders import clean_environment, curl
from benchmarks.process import BenchmarkFailure
from benchmarks.process import run as command
from benchmarks.readings import MIB, Contender, interleave, ratio, worst_of
from benchmarks.report import Report, side_by_side
from benchmarks.servers.mediagen import Server
from benchmarks.servers.source import DOCUMENT_FIELD

FROM_URL, FROM_BODY = f"{OURS}, field of a URL's JSON", f"{OURS}, body of the call"


async def run(bench: Bench) -> Report:
    """``mib`` counts base64 text; three quarters of it are stored."""
    mib = 500 // 4 // 4 * 4 if bench.quick else 500
    report = Report("base64", f"{mib} MiB of base64 in one field of a JSON document")
    url = bench.source.url(await bench.source.document(mib), "plain")
    upload = await bench.source.upload(mib)
    size = mib * MIB // 4 * 3
    for place, limit in (("disk", 5.0), ("s3", 64 * MIB / 1e6 + 5)):
        async with bench.store() as store, bench.server(store if place == "s3" else None) as server:
            fetch = functools.partial(server.api.ingest, [{"url": url, "field": DOCUMENT_FIELD}])
            post = functools.partial(_posted, server, bench.source.path(upload))
            contenders: dict[str, Contender] = {
                "curl": curl(url),
                "curl -o file, synced": curl(url, to=bench.work / "curl.bin"),
                FROM_URL: functools.partial(server.measured, fetch, size=size),
                FROM_BODY: functools.partial(server.measured, post, size=size),
            }
            warm, rounds = await interleave(contenders, bench.rounds(3))
            stalls = {FROM_URL: await server.stalls(fetch, bench.rounds(3))}
            stalls[FROM_BODY] = await server.stalls(post, bench.rounds(3))
        where = "local disk (in shared memory)" if place == "disk" else "S3"
        report.tables.append(f"To {where}:\n\n" + side_by_side(rounds, "curl"))
        for name in (FROM_URL, FROM_BODY):
            readings = [warm[name], *rounds[name]]
            gate = 1.2 if place == "disk" else None
            report.add(f"time / curl, {name}, to {place}", ratio(rounds, name, "curl"), "x", limit=gate)
            if place == "disk":  # the same bytes taken in, and written down
                written = ratio(rounds, name, "curl -o file, synced")
                report.add(f"time / curl -o file, {name}, to disk", written, "x")
            worst = worst_of(readings, lambda one: one.growth_mb)
            report.add(f"memory growth, {name}, to {place}", worst, "MB", limit=limit)
            report.stalls(f"{name}, to {place}", stalls[name], limit=20.0)
    bench.source.forget(upload)
    return report


async def _posted(server: Server, document: Path) -> Ended:
    """``document`` as the body of ``POST /v1/ingest``, sent by curl; time until the task is completed.

    Raises:
        BenchmarkFailure: the call was refused, or the task did not complete.
    """
    argv = ["curl", "-sS", "--fail-with-body", "-H", "Content-Type: application/json", "-H", "Expect:"]
    argv += ["-X", "POST", "-T", str(document), f"{server.base}/v1/ingest"]
    async with server.api.feed() as feed:
        began = time.perf_counter()
        answer = await command(argv, env=clean_environment())
        try:
            task_id = str(json.loads(answer.stdout)["id"])
        except (ValueError, KeyError) as exc:
            raise BenchmarkFailure(f"POST /v1/ingest: {answer.stdout[:300]!r}") from exc
        return await server.api.completed(feed, [task_id], began)
