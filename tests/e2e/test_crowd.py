"""More clients than a process may have files, and a store with a limit that is killed."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.api import Api, Refused
from tests.infra.process import need
from tests.infra.servers.mediagen import Server, Settings

pytestmark = pytest.mark.e2e

FILES = 128
CLIENTS = 300
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


def crowded(folder: Path, settings: Settings | None = None) -> Server:
    """A server that may have few files open."""
    need("prlimit")
    return Server(folder, settings, under=["prlimit", f"--nofile={FILES}:{FILES}"])


async def _one(port: int, stay: asyncio.Event) -> str:
    """The status that one client is answered, who stays as long as it may; or how it failed."""
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(GET)
                line = await reader.readline()
                await stay.wait()
                return line.split(b" ")[1].decode() if line else "closed"
            finally:
                writer.transport.abort()
    except (ConnectionError, TimeoutError) as exc:
        return type(exc).__name__


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _tries(server: Server) -> int:
    """How often it has tried to take a connection in and had no file for it."""
    return server.log.read_text().count("out of system resource")


async def _until_served(api: Api) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await api.call("GET", "/readyz")
            except (Refused, OSError):
                await asyncio.sleep(0.05)
            else:
                return


@pytest.mark.parametrize("limited", [True, False], ids=["as it comes", "more than it can bear"])
async def test_a_crowd_is_served_as_far_as_files_go(tmp_path: Path, limited: bool) -> None:
    """With a limit of its own every client is answered; without, the kernel lets those wait whom it has no file for."""
    settings: Settings = {} if limited else {"server": {"max_connections": 1000}}
    async with crowded(tmp_path, settings) as server, Api(server.url) as api:
        before, stay = server.descriptors, asyncio.Event()
        clients = [asyncio.get_running_loop().create_task(_one(server.port, stay)) for _ in range(CLIENTS)]
        await asyncio.sleep(2.5)
        assert server.descriptors <= FILES
        used, tried = _processor_seconds(server.pid), _tries(server)
        await asyncio.sleep(2)
        used, tried = _processor_seconds(server.pid) - used, _tries(server) - tried
        stay.set()
        answers = Counter(await asyncio.gather(*clients))

        await _until_served(api)
        file = await api.call("POST", "/v1/files", data=b"it still works")

    assert file["bytes"] == 14
    # it rests while it can take nobody in: four tries a second, not two thousand
    assert used < 1.0
    assert tried < 20
    assert answers["200"] >= 16
    if limited:
        assert answers["503"] > 0
    assert answers["TimeoutError"] == 0, answers
    assert before < FILES


async def _until_full(api: Api) -> None:
    while True:
        await api.call("POST", "/v1/files", data=b"x")


async def test_a_killed_store_knows_what_it_holds(tmp_path: Path) -> None:
    async with Server(tmp_path, {"limits": {"store_bytes": 500_000}}) as server:
        async with Api(server.url) as api:
            await api.call("POST", "/v1/files", data=bytes(300_000))
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(
                b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + bytes(190_000)
            )
            with pytest.raises(Refused, match="storage_full"):
                await _until_full(api)
        await server.kill9()
        writer.close()
        await server.restart()

        async with Api(server.url) as api:
            with pytest.raises(Refused, match="storage_full"):
                await api.call("POST", "/v1/files", data=bytes(200_001))
            await api.call("POST", "/v1/files", data=bytes(190_000))
