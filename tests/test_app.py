"""The composition root: what starts, what it refuses, how it stops, what a restart finds."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mediagen.app.instance import running
from mediagen.core.errors import StorageRefused, Unavailable
from mediagen.settings import Settings
from tests.infra.resource import Break, Resource
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

HEAVY = "aiobotocore", "botocore", "aiohttp", "aiosqlite", "pydantic", "rich.progress", "structlog", "uvloop"


def settings(tmp_path: Path, **tables: Any) -> Settings:
    return Settings(data_dir=tmp_path / "data", **{"server": {"port": 0}, **tables})


def imported(*argv: str) -> set[str]:
    """Modules that the command line has imported when it is done."""
    code = f"""
import sys
sys.argv = {["mediagen", *argv]!r}
from mediagen.cli.main import main
try:
    main()
except SystemExit as exc:
    assert not exc.code, exc.code
print("\\n@" + "\\n@".join(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    return {line[1:] for line in done.stdout.splitlines() if line.startswith("@")}


def ask(url: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(url + path, None if body is None else json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_help_imports_nothing_heavy() -> None:
    modules = imported("--help")

    assert [name for name in HEAVY if name in modules] == []
    assert "typer" in modules


async def test_a_local_store_does_not_import_the_s3_library(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from mediagen.app.instance import running
from mediagen.settings import Settings
async def main():
    async with running(Settings(data_dir=Path({str(tmp_path / "data")!r}), server=dict(port=0))):
        pass
asyncio.run(main())
print("aiobotocore" in sys.modules, "botocore" in sys.modules)
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout.endswith("False False\n")


@pytest.mark.parametrize(
    ("host", "required", "needed"),
    [
        ("127.0.0.1", "auto", False),
        ("localhost", "auto", False),
        ("::1", "auto", False),
        ("0.0.0.0", "auto", True),
        ("192.0.2.1", "auto", True),
        ("::", "auto", True),
        ("127.0.0.1", True, True),
        ("0.0.0.0", False, False),
    ],
)
def test_nobody_is_let_in_by_accident(host: str, required: Any, needed: bool) -> None:
    settings = Settings(server={"host": host}, auth={"required": required})

    assert settings.auth.needs_keys(settings.server) is needed


async def test_two_servers_do_not_share_a_data_directory(tmp_path: Path) -> None:
    async with running(settings(tmp_path)):
        with pytest.raises(Unavailable, match="another mediagen"):
            async with running(settings(tmp_path)):
                pass


async def test_a_port_in_use_stops_the_start_and_leaves_nothing_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with running(settings(tmp_path, server={"port": taken.getsockname()[1]})):
            pass

    async with running(settings(tmp_path)) as instance:
        assert instance.port


async def test_an_s3_store_without_a_bucket_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StorageRefused, match="bucket"):
        async with running(settings(tmp_path, storage={"backend": "s3"})):
            pass


async def test_it_starts_and_stops_many_times_and_leaves_no_descriptor_open(tmp_path: Path) -> None:
    def open_now() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with running(settings(tmp_path)):
        pass
    before = await asyncio.to_thread(open_now)
    for _ in range(10):
        async with running(settings(tmp_path)):
            pass

    assert await asyncio.to_thread(open_now) <= before


@pytest.mark.parametrize("event_loop", ["asyncio", "uvloop"])
async def test_sigterm_puts_running_work_back_and_the_next_start_goes_on(
    tmp_path: Path, source: SourceServer, event_loop: str
) -> None:
    """What the operator sees: 0 as exit status, and the task completed after the next start."""
    url = source.add("/film", Resource(size=40 << 20, seed=1, breaks=[Break(after=4 << 20, how="stall", times=1)]))

    async with Server(tmp_path, {"server": {"event_loop": event_loop}}) as server:
        task = await asyncio.to_thread(ask, server.url, "/v1/ingest", {"url": url})
        await source.log.reaches(lambda log: source.sent("/film") > 1 << 20)
        status = await server.stop()
        source.release("/film")
        await server.restart()
        async with asyncio.timeout(30):
            while (task := await asyncio.to_thread(ask, server.url, f"/v1/tasks/{task['id']}"))[
                "status"
            ] != "completed":
                await asyncio.sleep(0.05)

    assert status == 0
    assert task["result"]["file"]["bytes"] == 40 << 20
    assert task["attempt"] == 1


async def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    async with Server(tmp_path) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /v1/ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.2)  # the request is being read: it holds up the end

        server._running.send(15)
        await asyncio.sleep(0.2)
        status = await server.stop(timeout=2)
        writer.close()

    assert status == -15
