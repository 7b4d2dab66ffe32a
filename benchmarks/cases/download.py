"""A stored file on its way out: from disk beside nginx, and from S3 through us beside the store itself."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench
from benchmarks.cases.transfers.to_s3 import OURS
from benchmarks.load.pinger import pinging
from benchmarks.peers.contenders import clean_environment
from benchmarks.process import BenchmarkFailure, Watch
from benchmarks.process import run as command
from benchmarks.readings import GIB, MIB, Contender, Reading, interleave, median_of, ratio, worst_of
from benchmarks.report import Report, side_by_side
from benchmarks.servers.mediagen import BUCKET, Server

NGINX, STORE, STREAMED = "nginx", "the store itself", f"{OURS}, through us"
IN_RANGES: Final = ", 64 ranges"
PIECES: Final = 64
AT_ONCE: Final = 32


async def run(bench: Bench) -> Report:
    """curl takes the bytes and drops them; whoever sends them is measured."""
    mib = bench.mib(1024)
    report = Report("download", f"{mib} MiB, a stored file to a client (everything in shared memory)")
    name = await bench.source.file(mib)
    path, size = bench.source.path(name), mib * MIB
    async with bench.server() as server:
        url = await _uploaded(server, path)
        theirs = bench.source.url(name)
        contenders: dict[str, Contender] = {
            NGINX: functools.partial(_taken, bench.source.pid, _whole(theirs, size)),
            OURS: functools.partial(_taken, server.pid, _whole(url, size)),
            NGINX + IN_RANGES: functools.partial(_taken, bench.source.pid, _ranges(bench, theirs, size, "nginx")),
            OURS + IN_RANGES: functools.partial(_taken, server.pid, _ranges(bench, url, size, "ours")),
        }
        warm, rounds = await interleave(contenders, bench.rounds(7))
        stalls = await _stalls(server, lambda: _taken(server.pid, _whole(url, size)), bench.rounds(3))
    report.tables.append(side_by_side(rounds, NGINX))
    for kind in ("", IN_RANGES):
        limits = (1.1, 0.2) if not kind else (None, None)
        report.add(f"time / nginx{kind}", ratio(rounds, OURS + kind, NGINX + kind), "x", limit=limits[0])
        cpu = median_of(rounds[OURS + kind], lambda one: one.cpu)
        report.add(f"processor time{kind}", None if cpu is None else cpu * GIB / size, "s/GiB", limit=limits[1])
        growth = worst_of([warm[OURS + kind], *rounds[OURS + kind]], lambda one: one.growth_mb)
        report.add(f"memory growth{kind}", growth, "MB", limit=5.0)
    report.stalls("from disk", stalls, limit=20.0)
    await _from_s3(bench, report, path, size)
    return report


async def _from_s3(bench: Bench, report: Report, path: Path, size: int) -> None:
    """The store gives the bytes of the source's file for whatever object is asked for: it kept none of them."""
    async with (
        bench.store(gives=path) as store,
        bench.server(store, settings={"storage": {"s3": {"serve": "stream"}}}) as server,
    ):
        url = await _uploaded(server, path)
        (key,) = (await store.stats()).objects
        theirs = f"{store.url}{key}"
        contenders: dict[str, Contender] = {
            STORE: functools.partial(_taken, store.pid, _whole(theirs, size)),
            STREAMED: functools.partial(_taken, server.pid, _whole(url, size)),
            STREAMED + IN_RANGES: functools.partial(_taken, server.pid, _ranges(bench, url, size, "streamed")),
        }
        warm, rounds = await interleave(contenders, bench.rounds(5))
        at_once = await _taken(server.pid, _at_once(url, size))
        stalls = await _stalls(server, lambda: _taken(server.pid, _whole(url, size)), bench.rounds(3))
    if not key.startswith(f"/{BUCKET}/"):
        raise BenchmarkFailure(f"an object lies at {key}")
    report.tables.append(side_by_side(rounds, STORE))
    report.add("time / the store itself", ratio(rounds, STREAMED, STORE), "x")
    cpu = median_of(rounds[STREAMED], lambda one: one.cpu)
    report.add("processor time, through us", None if cpu is None else cpu * GIB / size, "s/GiB")
    taken = [warm[STREAMED], *rounds[STREAMED], *rounds[STREAMED + IN_RANGES]]
    report.add("memory growth, through us", worst_of(taken, lambda one: one.growth_mb), "MB", limit=10.0)
    report.add(f"memory growth, {AT_ONCE} at once through us", at_once.growth_mb, "MB", limit=50.0)
    report.stalls("through us", stalls, limit=20.0)


async def _uploaded(server: Server, path: Path) -> str:
    """The signed link of a new file."""
    argv = ["curl", "-sS", "--fail-with-body", "-X", "POST", "-T", str(path), f"{server.base}/v1/files"]
    await command(argv, env=clean_environment())
    async with server.api.session.get(f"{server.base}/v1/files?limit=1") as answer:
        url: str = (await answer.json())["data"][0]["url"]
    return url


async def _taken(pid: int, transfer: Callable[[], Awaitable[float]]) -> Reading:
    watch = Watch(pid)
    seconds = await transfer()
    usage = watch.stop()
    return Reading(seconds, usage.cpu, usage.growth_mb)


def _whole(url: str, size: int) -> Callable[[], Awaitable[float]]:
    return functools.partial(_curl, ["-o", "/dev/null", url], size)


def _ranges(bench: Bench, url: str, size: int, name: str) -> Callable[[], Awaitable[float]]:
    """All of the file in ranges one after another, over one connection."""
    piece = size // PIECES
    config = bench.work / f"ranges-{name}.curl"
    lines = (
        f'url = "{url}"\nrange = {start}-{start + piece - 1}\noutput = /dev/null\nwrite-out = "%{{size_download}} "\n'
        for start in range(0, size, piece)
    )
    config.write_text("silent\nshow-error\nfail\n" + "next\nsilent\nshow-error\nfail\n".join(lines))
    return functools.partial(_curl, ["-K", str(config)], size)


def _at_once(url: str, size: int) -> Callable[[], Awaitable[float]]:
    """An equal share of the file by many clients at once."""
    argv = ["-Z", "--parallel-max", str(AT_ONCE), "--parallel-immediate", "-r", f"0-{size // AT_ONCE - 1}"]
    return functools.partial(_curl, argv + ["-o", "/dev/null", url] * AT_ONCE, size)


async def _curl(argv: list[str], size: int) -> float:
    """Seconds; raises BenchmarkFailure unless ``size`` bytes came."""
    argv = ["curl", "-sS", "--fail", "-w", "%{size_download} ", *argv]
    done = await command(argv, env=clean_environment())
    came = sum(int(number) for number in done.stdout.split())
    if came != size:
        raise BenchmarkFailure(f"{came} of {size} bytes came")
    return done.seconds


async def _stalls(server: Server, run: Callable[[], Awaitable[Reading]], times: int) -> list[float]:
    """The longest stall of the event loop in ms during each of some downloads that are not measured otherwise."""
    found: list[float] = []
    for _ in range(times):
        async with pinging(server.api.session, server.base) as pinger:
            await run()
        found.append(min(pinger.worst_ms, await server.stall_ms()))
    return found
