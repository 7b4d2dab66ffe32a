"""Many slow downloads at once: whoever waits for an answer gets one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.e2e.api import Api
from tests.infra.resource import Break, Resource
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

SLOW = 160
BUDGET = 8 << 20


async def test_slow_downloads_leave_memory_for_uploads_and_images(tmp_path: Path, source: SourceServer) -> None:
    """There are more downloads than buffers in their share of the budget, even small ones."""
    settings = {"tasks": {"lanes": {"ingest": SLOW}}, "storage": {"buffer_bytes": BUDGET}}
    stalled = Resource(size=2_000_000, ranges="no", breaks=[Break(after=8192, how="stall")])
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        for number in range(SLOW):
            await api.call("POST", "/v1/ingest", json={"url": source.add(f"/{number}", stalled)})
        async with asyncio.timeout(60):
            while not (lent := await metric(api, "mediagen_buffer_waiting")):
                await asyncio.sleep(0.05)

        async with asyncio.timeout(20):
            file = await api.call("POST", "/v1/files", data=b"hello")
            image = await api.call("POST", "/v1/images/generations", json={"prompt": "a fox"})

        assert lent > 0
        assert file["bytes"] == 5
        assert image["data"]


async def metric(api: Api, name: str) -> float:
    async with api.session.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name)))
