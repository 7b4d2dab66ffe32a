"""A file that a client sends, onto local disk: as the body and in a form, beside nginx's DAV module taking a PUT."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench
from benchmarks.cases.transfers.to_s3 import BUFFER_MB, OURS
from benchmarks.load.pinger import pinging
from benchmarks.peers.contenders import clean_environment
from benchmarks.process import BenchmarkFailure, Child, Watch
from benchmarks.process import run as command
from benchmarks.readings import GIB, MIB, Contender, Reading, interleave, median_of, ratio, worst_of
from benchmarks.report import Report, side_by_side
from benchmarks.servers.mediagen import Server
from benchmarks.servers.source import NGINX_MISSING, free_port, until_open

RAW, FORM, DAV = f"{OURS}, body", f"{OURS}, form", "nginx, DAV PUT"

_CONFIG: Final = """
master_process off; daemon off; pid {root}/nginx.pid; error_log {root}/nginx.log warn; {user}
events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size 0; client_body_temp_path {root}/tmp;
  proxy_temp_path {root}/tmp; fastcgi_temp_path {root}/tmp; uwsgi_temp_path {root}/tmp; scgi_temp_path {root}/tmp;
  server {{ listen 127.0.0.1:{port}; location / {{ root {root}/taken; dav_methods PUT DELETE; }} }}
}}
"""


async def run(bench: Bench) -> Report:
    """nginx writes the body to its place and does not sync it; ours is hashed, synced and recorded."""
    mib = bench.mib(1024)
    report = Report("upload", f"{mib} MiB, a client's file to local disk (in shared memory)")
    path = bench.source.path(await bench.source.file(mib))
    async with bench.server() as server, _dav(bench.work / "dav") as (nginx, url):
        raw, form = ["-X", "POST", "-T", str(path)], ["-F", f"file=@{path}"]
        contenders: dict[str, Contender] = {
            DAV: functools.partial(_put, path, nginx, url, bench.work / "dav" / "taken" / "file.bin"),
            RAW: functools.partial(_post, server, raw, mib * MIB),
            FORM: functools.partial(_post, server, form, mib * MIB),
        }
        warm, rounds = await interleave(contenders, bench.rounds(5))
        stalls = {name: await _stalls(server, sent, mib * MIB, bench) for name, sent in ((RAW, raw), (FORM, form))}
    report.tables.append(side_by_side(rounds, DAV))
    for name, limit in ((RAW, 1.5), (FORM, 1.8)):
        report.add(f"time / {DAV}, {name}", ratio(rounds, name, DAV), "x", limit=limit)
        cpu = median_of(rounds[name], lambda one: one.cpu)
        report.add(f"processor time, {name}", None if cpu is None else cpu * GIB / (mib * MIB), "s/GiB")
        growth = worst_of([warm[name], *rounds[name]], lambda one: one.growth_mb)
        report.add(f"memory growth, {name}", growth, "MB", limit=BUFFER_MB)
        report.stalls(name, stalls[name], limit=20.0)
    return report


async def _post(server: Server, sent: list[str], size: int) -> Reading:
    """One upload by curl; what it made is checked and deleted."""
    argv = ["curl", "-sS", "--fail-with-body", "-H", "Expect:", *sent, f"{server.base}/v1/files"]
    watch = Watch(server.pid)
    done = await command(argv, env=clean_environment())
    usage = watch.stop()
    file = json.loads(done.stdout)
    if file["bytes"] != size:
        raise BenchmarkFailure(f"stored {file['bytes']} of {size} bytes")
    async with server.api.session.delete(f"{server.base}/v1/files/{file['id']}") as answer:
        if answer.status != 204:
            raise BenchmarkFailure(f"DELETE answered {answer.status}")
    return Reading(done.seconds, usage.cpu, usage.growth_mb)


async def _put(path: Path, pid: int, url: str, taken: Path) -> Reading:
    watch = Watch(pid)
    done = await command(
        ["curl", "-sS", "--fail", "-H", "Expect:", "-T", str(path), f"{url}/file.bin"], env=clean_environment()
    )
    usage = watch.stop()
    if taken.stat().st_size != path.stat().st_size:
        raise BenchmarkFailure("nginx has not stored the whole file")
    taken.unlink()
    return Reading(done.seconds, usage.cpu, usage.growth_mb)


async def _stalls(server: Server, sent: list[str], size: int, bench: Bench) -> list[float]:
    """The longest stall of the event loop in ms during each of some uploads that are not measured otherwise."""
    found: list[float] = []
    for _ in range(bench.rounds(3)):
        async with pinging(server.api.session, server.base) as pinger:
            await _post(server, sent, size)
        found.append(min(pinger.worst_ms, await server.stall_ms()))
    return found


@asynccontextmanager
async def _dav(root: Path) -> AsyncIterator[tuple[int, str]]:
    """An nginx of one process that takes PUTs below ``root``/taken: its process id and its address.

    Raises:
        BenchmarkFailure: there is no nginx, or it has no DAV module.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise BenchmarkFailure(NGINX_MISSING)
    for name in ("tmp", "taken"):
        (root / name).mkdir(parents=True)
    port = free_port()
    config = root / "nginx.conf"
    config.write_text(_CONFIG.format(root=root, port=port, user="user root;" if os.geteuid() == 0 else ""))
    child = Child([nginx, "-c", str(config), "-e", str(root / "nginx.log")], log=root / "nginx.out")
    async with child:
        await until_open(port, child, "nginx with its DAV module")
        yield child.pid, f"http://127.0.0.1:{port}"
