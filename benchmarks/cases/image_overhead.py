"""What we add to a call for a picture: a provider that answers at once, asked through us and directly."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp

from benchmarks.bench import Bench
from benchmarks.process import BenchmarkFailure, cpu_seconds
from benchmarks.readings import Reading, Rounds, interleave, median
from benchmarks.report import Report, grid
from benchmarks.servers.mediagen import Server
from benchmarks.servers.vendor import PICTURE_HEAD, Vendor, write, write_text

SIZE: Final = 1_000_000
CALLS: Final = 100
ADDED_MS: Final = 15.0
PATH: Final = "/v1/images/generations"
OURS: Final = {
    "provider sends text, we answer a url": ("text", "url"),
    "provider sends text, we answer b64_json": ("text", "b64_json"),
    "provider sends a url, we answer a url": ("url", "url"),
    "provider sends a url, we answer b64_json": ("url", "b64_json"),
}


async def run(bench: Bench) -> Report:
    """One client, one call after the other on an open connection; in the end it has the picture, or its URL."""
    report = Report("image-overhead", f"a picture of {SIZE / 1e6:g} MB in one call, through mediagen and directly")
    picture = await write(bench.work / "picture.png", PICTURE_HEAD, SIZE)
    document = await write_text(
        bench.work / "picture.json", PICTURE_HEAD, SIZE, b'{"created":1,"data":[{"b64_json":"', b'"}]}'
    )
    async with Vendor(bench.work, picture=picture, picture_json=document) as vendor:
        for where, folder in (("shared memory", bench.work), ("a real disk", bench.disk)):
            async with Server(folder, settings=vendor.settings()) as server:
                await _compare(bench, report, vendor, server, where)
    return report


async def _compare(bench: Bench, report: Report, vendor: Vendor, server: Server, where: str) -> None:
    session = server.api.session
    contenders: dict[str, Callable[[], Awaitable[Reading]]] = {
        f"direct, {model}": _calls(session, vendor.url, {"model": model}) for model in ("text", "url")
    }
    contenders |= {
        name: _calls(session, server.base, {"model": model, "response_format": form}, server.pid)
        for name, (model, form) in OURS.items()
    }
    rounds: Rounds
    _, rounds = await interleave(contenders, CALLS // 4 if bench.quick else CALLS)
    half = {name: median([one.seconds for one in found]) * 1000 for name, found in rounds.items()}
    lines = [(name, f"{ms:.1f}") for name, ms in half.items()]
    report.tables.append(f"Kept in {where}:\n\n" + grid(("", "p50, ms"), lines))
    for name, (model, _) in OURS.items():
        # a real disk's own time to sync is not ours
        limit = ADDED_MS if where == "shared memory" else None
        report.add(f"added to p50, {name}, {where}", half[name] - half[f"direct, {model}"], "ms", limit=limit)
    used = sum(one.cpu or 0.0 for name in OURS for one in rounds[name]) / sum(len(rounds[name]) for name in OURS)
    report.add(f"processor time of a call, mean, {where}", used * 1000, "ms")


def _calls(
    session: aiohttp.ClientSession, base: str, fields: dict[str, Any], pid: int | None = None
) -> Callable[[], Awaitable[Reading]]:
    """One call and what it needs until the picture, or our URL of it, is at hand."""

    async def go() -> Reading:
        cpu = cpu_seconds(pid) if pid is not None else 0.0
        began = time.perf_counter()
        async with session.post(f"{base}{PATH}", json={**fields, "prompt": "a fox", "n": 1}) as reply:
            text = await reply.read()
            if reply.status != 200:
                raise BenchmarkFailure(f"POST {PATH}: {reply.status} {text[:300]!r}")
            if pid is None and fields["model"] == "url":
                async with session.get(json.loads(text)["data"][0]["url"]) as picture:
                    size = len(await picture.read())
        seconds = time.perf_counter() - began
        found = json.loads(text)["data"][0]
        if found.get("b64_json"):
            size = len(base64.b64decode(found["b64_json"]))
        elif pid is not None:
            size = SIZE if found["url"].startswith(base) else 0
        if size != SIZE:
            raise BenchmarkFailure(f"{size} of {SIZE} bytes came")
        return Reading(seconds, cpu_seconds(pid) - cpu if pid is not None else None)

    return go
