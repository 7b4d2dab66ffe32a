"""How many clients may ask how far their film is: processor time of ``GET /v1/videos/{id}``."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import aiohttp

from benchmarks.bench import Bench
from benchmarks.process import BenchmarkFailure, Watch
from benchmarks.readings import median
from benchmarks.report import Report
from benchmarks.servers.mediagen import Server
from benchmarks.servers.vendor import FILM_HEAD, Vendor, write

CLIENTS: Final = 8
POLLS: Final = 4000
MOST_MS: Final = 5.0
"""Of a core for one poll: 200 polls a second and core."""


async def run(bench: Bench) -> Report:
    """Films that are being made and films that are there, without keys and with."""
    polls = bench.mib(POLLS)
    report = Report("polls", f"{polls} status polls by {CLIENTS} clients at once")
    film = await write(bench.work / "film.mp4", FILM_HEAD, 1_000_000)
    async with Vendor(bench.work, film=film) as vendor:
        for keys in (False, True):
            settings = {**vendor.settings(), **({"auth": {"required": True}} if keys else {})}
            async with bench.server(settings=settings) as server:
                headers = {"Authorization": f"Bearer {await server.key()}"} if keys else {}
                await _measure(bench, report, server, headers, polls)
    return report


async def _measure(bench: Bench, report: Report, server: Server, headers: dict[str, str], polls: int) -> None:
    where = "with keys" if headers else "without keys"
    async with aiohttp.ClientSession(headers=headers) as session:
        for model, status in (("endless", "in_progress"), ("openai", "completed")):
            async with session.post(f"{server.base}/v1/videos", json={"model": model, "prompt": "waves"}) as reply:
                video = await reply.json()
            url = f"{server.base}/v1/videos/{video['id']}"
            async with asyncio.timeout(60):
                while (await _poll(session, url))["status"] != status:
                    await asyncio.sleep(0.05)
            used, rates = [], []
            for _ in range(1 + bench.rounds(3)):
                watch, began = Watch(server.pid), time.perf_counter()
                async with asyncio.TaskGroup() as group:
                    for _ in range(CLIENTS):
                        group.create_task(_polls(session, url, polls // CLIENTS, status))
                rates.append(polls / (time.perf_counter() - began))
                used.append(watch.stop().cpu / polls)
            what = f"{status}, {where}"
            report.add(f"processor time of a poll, {what}", median(used[1:]) * 1000, "ms", limit=MOST_MS)
            report.add(f"polls a second and core, {what}", 1 / max(median(used[1:]), 1e-9), "1/s")
            report.add(f"polls a second that these clients got, {what}", median(rates[1:]), "1/s")


async def _polls(session: aiohttp.ClientSession, url: str, count: int, status: str) -> None:
    for _ in range(count):
        found = (await _poll(session, url))["status"]
        if found != status:
            raise BenchmarkFailure(f"the film is {found}, not {status}")


async def _poll(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url) as reply:
        answer: dict[str, Any] = await reply.json()
        if reply.status != 200:
            raise BenchmarkFailure(f"GET {url}: {reply.status} {answer}")
    return answer
