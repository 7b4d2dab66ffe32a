"""A film of a provider, from the call until it is kept: behind URLs, and as base64 in the answer."""

from __future__ import annotations

import functools
import time

from benchmarks.api import Ended
from benchmarks.bench import Bench
from benchmarks.peers.contenders import curl
from benchmarks.readings import MIB, Contender, interleave, median_of, ratio, worst_of
from benchmarks.report import Report, side_by_side
from benchmarks.servers.mediagen import Server
from benchmarks.servers.vendor import FILM_HEAD, Vendor, write, write_text

WAYS = {
    "openai": "openai: its own URL with Range",
    "minimax": "minimax: a URL without Range",
    "google": "google: base64 in JSON",
}
GROWTH_MB = 100.0


async def run(bench: Bench) -> Report:
    """Onto local disk; the operation of Google is read twice, once to see that it is done."""
    mib = bench.mib(500)
    report = Report("paid-video", f"a film of {mib} MiB through the whole pipeline, to local disk (in shared memory)")
    film = await write(bench.source.path("film.mp4"), FILM_HEAD, mib * MIB)
    before = b'{"name":"models/veo/operations/1","done":true,"response":{"videos":[{"bytesBase64Encoded":"'
    document = await write_text(bench.work / "film.json", FILM_HEAD, mib * MIB, before, b'"}]}}')
    url = bench.source.url("film.mp4", "plain")
    async with (
        Vendor(bench.work, film=film, film_json=document, film_url=url) as vendor,
        bench.server(settings=vendor.settings()) as server,
    ):
        contenders: dict[str, Contender] = {"curl": curl(url)}
        for model, name in WAYS.items():
            contenders[name] = functools.partial(
                server.measured, functools.partial(_made, server, model), size=mib * MIB
            )
        warm, rounds = await interleave(contenders, bench.rounds(3))
        stalls = {
            name: await server.stalls(functools.partial(_made, server, model), bench.rounds(3))
            for model, name in WAYS.items()
        }
    report.tables.append(side_by_side(rounds, "curl"))
    for name in WAYS.values():
        growth = worst_of([warm[name], *rounds[name]], lambda one: one.growth_mb)
        report.add(f"memory growth, {name}", growth, "MB", limit=GROWTH_MB)
        report.add(f"time / curl, {name}", ratio(rounds, name, "curl"), "x")
        report.add(f"processor time, {name}", median_of(rounds[name], lambda one: one.cpu), "s")
        report.stalls(name, stalls[name], limit=20.0)
    bench.source.forget("film.mp4")
    document.unlink()
    return report


async def _made(server: Server, model: str) -> Ended:
    async with server.api.feed() as feed:
        began = time.perf_counter()
        video = await server.api.call("POST", "/v1/videos", {"model": model, "prompt": "waves"})
        return await server.api.completed(feed, [video["task_id"]], began)
