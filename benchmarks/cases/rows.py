"""How the server keeps its pace as its tables grow: lists, start and purge with a thousand rows and with a million."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.process import BenchmarkFailure
from benchmarks.readings import median
from benchmarks.report import Report, grid
from benchmarks.servers.mediagen import Server

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
QUICK_SIZES: Final = SIZES[:3]
ADMIN: Final = "bench-admin-key-0123456789"
OWNER: Final = "busy"
ASKED: Final = 30
"""How often each list is asked for."""
LISTS: Final = {
    "all": "/v1/tasks",
    "one status": "/v1/tasks?status=running",
    "one kind": "/v1/tasks?kind=image",
    "status and kind": "/v1/tasks?status=failed&kind=image",
    "a later page": "/v1/tasks?after={middle}",
    "files of a kind": "/v1/files?kind=audio",
    "deliveries": "/v1/webhooks/deliveries?status=failed",
}
MOST_LIST: Final = 2.0
"""Limit for the time of a page in the largest table, divided by its time in the smallest."""
MOST_START: Final = 2.0
MOST_PURGE_SECONDS: Final = 60.0
MOST_POST_MS: Final = 200.0


async def run(bench: Bench) -> Report:
    """Measure lists and starts at each size, and the purge of the largest. One owner has nearly all rows."""
    sizes = QUICK_SIZES if bench.quick else SIZES
    report = Report("rows", f"lists, start and purge with {sizes[0]:,} to {sizes[-1]:,} rows")
    starts: dict[int, float] = {}
    folders = {rows: bench.disk / f"rows-{rows}" for rows in sizes}
    for rows, data in folders.items():
        async with _server(bench, data):
            pass
        await asyncio.to_thread(fill, data / "mediagen.db", rows, ended=datetime.now(UTC) - timedelta(days=1))
        async with _server(bench, data):
            pass  # the first start after the file was written by another reads it through
    async with AsyncExitStack() as stack:
        servers: dict[int, Server] = {}
        for rows, data in folders.items():
            began = time.perf_counter()
            servers[rows] = await stack.enter_async_context(_server(bench, data))
            starts[rows] = time.perf_counter() - began
        lists = await _lists(servers)
    seconds, slowest = await _purge(bench, bench.disk / f"rows-{sizes[-1]}", sizes[-1])

    head = ("", *(f"{rows:,} rows, ms" for rows in sizes))
    lines = [(name, *(f"{median(times[rows]):.1f}" for rows in sizes)) for name, times in lists.items()]
    lines.append(("start", *(f"{starts[rows] * 1000:.0f}" for rows in sizes)))
    report.tables.append(grid(head, lines))
    for name, times in lists.items():
        grown = median([large / small for small, large in zip(times[sizes[0]], times[sizes[-1]], strict=True)])
        report.add(f"{name}: largest / smallest table", grown, "x", limit=MOST_LIST)
    report.add("start: largest / smallest table", starts[sizes[-1]] / starts[sizes[0]], "x", limit=MOST_START)
    report.add(f"purge of {sizes[-1]:,} tasks", seconds, "s", limit=MOST_PURGE_SECONDS)
    report.add("slowest POST meanwhile", slowest, "ms", limit=MOST_POST_MS)
    return report


def _server(bench: Bench, data: Path, *, history_days: float = 0) -> Server:
    settings = {
        "data_dir": str(data),
        "auth": {"required": True, "admin_key": ADMIN},
        "tasks": {"history_days": history_days},
    }
    return bench.server(settings=settings)


async def _lists(servers: Mapping[int, Server]) -> dict[str, dict[int, list[float]]]:
    """Milliseconds of each list of each server, which take turns, asked for by the owner of nearly all rows."""
    keys = {rows: await _key(server) for rows, server in servers.items()}
    found: dict[str, dict[int, list[float]]] = {name: {rows: [] for rows in servers} for name in LISTS}
    for name, path in LISTS.items():
        for _ in range(ASKED):
            for rows, server in servers.items():
                url = server.base + path.format(middle=_task_id(rows // 2))
                began = time.perf_counter()
                async with server.api.session.get(url, headers=keys[rows]) as reply:
                    if reply.status != 200:
                        raise BenchmarkFailure(f"GET {url}: {reply.status} {await reply.text()}")
                    await reply.read()
                found[name][rows].append((time.perf_counter() - began) * 1000)
    return found


async def _key(server: Server) -> dict[str, str]:
    wanted, headers = {"name": "asking", "owner": OWNER}, {"Authorization": f"Bearer {ADMIN}"}
    async with server.api.session.post(f"{server.base}/v1/keys", json=wanted, headers=headers) as reply:
        return {"Authorization": f"Bearer {(await reply.json())['key']}"}


async def _purge(bench: Bench, data: Path, rows: int) -> tuple[float, float]:
    """Seconds until all ended tasks are gone, and the milliseconds of the slowest of the requests made meanwhile."""
    slowest = 0.0
    async with _server(bench, data, history_days=0.01) as server:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        began = time.perf_counter()
        while await _is_there(server, headers):
            asked = time.perf_counter()
            body = {"data": "aGVsbG8="}
            async with server.api.session.post(f"{server.base}/v1/ingest", json=body, headers=headers) as reply:
                if reply.status >= 400:
                    raise BenchmarkFailure(f"POST /v1/ingest: {reply.status} {await reply.text()}")
            slowest = max(slowest, (time.perf_counter() - asked) * 1000)
            if time.perf_counter() - began > 10 * MOST_PURGE_SECONDS:
                raise BenchmarkFailure(f"{rows:,} tasks were not purged within {10 * MOST_PURGE_SECONDS:.0f} s")
            await asyncio.sleep(0.05)
        return time.perf_counter() - began, slowest


async def _is_there(server: Server, headers: dict[str, str]) -> bool:
    """Whether one of the old tasks is left: the purge takes the oldest end first, so the last one tells."""
    async with server.api.session.get(f"{server.base}/v1/tasks?kind=video&limit=1", headers=headers) as reply:
        return bool((await reply.json())["data"])


def _task_id(number: int) -> str:
    return f"task_{number:032x}"


def fill(path: Path, rows: int, *, ended: datetime) -> None:
    """As many ended tasks, files and deliveries; what the lists ask for is rare and the oldest."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")

    def times(number: int) -> str:
        return (ended - timedelta(seconds=rows - number)).isoformat(timespec="microseconds")

    def tasks() -> Iterator[tuple[Any, ...]]:
        for n in range(rows):
            kind = "video" if n == rows - 1 else "image" if n < 20 else "ingest"
            yield _task_id(n), kind, "failed" if n < 20 else "cancelled", times(n), OWNER

    connection.executemany(
        "INSERT INTO tasks (id, kind, lane, status, request, created_at, updated_at, priority, attempt, max_attempts, "
        "claims, version, timeout_seconds, started_at, ended_at, cancel_requested, checkpoint, owner) "
        'VALUES (?1, ?2, ?2, ?3, \'{"url":"https://example.com/a"}\', ?4, ?4, 50, 1, 3, 0, 1, 1800.0, ?4, ?4, 0, '
        "'{}', ?5)",
        tasks(),
    )
    connection.executemany(
        "INSERT INTO files (id, key, filename, bytes, media_type, kind, checksum_algorithm, checksum_value, "
        "created_at, etag, owner, task_id, metadata) "
        "VALUES (?1, ?1, 'a.mp4', 1, 'video/mp4', ?2, 'crc32', '00000000', ?3, 'e', ?4, ?5, '{}')",
        ((f"file_{n:032x}", "audio" if n < 20 else "video", times(n), OWNER, _task_id(n)) for n in range(rows)),
    )
    connection.executemany(
        "INSERT INTO deliveries (id, type, task_id, task_attempt, owner, url, target, status, tries, step, "
        "created_at, ended_at, task, omitted) "
        "VALUES (?1, 'task.failed', ?2, 1, ?3, 'https://example.com/', 'example.com', ?4, 1, 1, ?5, ?5, '{}', '[]')",
        ((f"evt_{n:032x}", _task_id(n), OWNER, "failed" if n < 20 else "delivered", times(n)) for n in range(rows)),
    )
    connection.commit()
    connection.close()
