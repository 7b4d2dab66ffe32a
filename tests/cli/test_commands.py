"""The commands, each as its own process, against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.waiting import becomes
from tests.infra.resource import Answer, Break, Resource
from tests.infra.servers.mediagen import Server
from tests.infra.servers.radosgw import free_ports
from tests.infra.servers.source import SourceServer

NOBODY = "http://127.0.0.1:9"
UNKNOWN = "task_" + "0" * 32


@dataclass(frozen=True)
class Done:
    status: int | None
    out: str
    err: str


async def mediagen(*argv: str, cwd: Path | None = None, **environ: str) -> Done:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mediagen", *argv),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **environ},
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return Done(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(tmp_path) as started:
        yield started


async def test_ingest_waits_and_names_the_file(server: Server, source: SourceServer) -> None:
    url = source.add("/film.bin", Resource(size=2_000_000, seed=3))

    done = await mediagen("ingest", url, "--wait", "--filename", "my film.bin", "--server", server.url)

    assert done.status == 0, done.err
    assert done.out.startswith("my film.bin  1.9 MiB  application/octet-stream  http://127.0.0.1:")
    assert "queued" in done.err or "running" in done.err


async def test_ingest_without_wait_gives_the_id(server: Server, source: SourceServer) -> None:
    url = source.add("/film.bin", Resource(size=1000))

    done = await mediagen("ingest", url, MEDIAGEN_SERVER=server.url)

    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("task_")


async def test_ingest_prints_json_lines(server: Server, source: SourceServer) -> None:
    url = source.add("/film.bin", Resource(size=1000))

    done = await mediagen("ingest", url, "--wait", "--json", "--server", server.url)

    lines = [json.loads(line) for line in done.out.splitlines()]
    assert done.status == 0
    assert lines[-1]["status"] == "completed"
    assert {line["id"] for line in lines} == {lines[0]["id"]}


async def test_ingest_tells_failure_from_success(server: Server, source: SourceServer) -> None:
    url = source.add("/gone", Resource(always=Answer(404)))

    failed = await mediagen("ingest", url, "--wait", "--server", server.url)
    refused = await mediagen("ingest", "ftp://example.com/", "--server", server.url)

    assert (failed.status, refused.status) == (1, 2)
    assert "failed" in failed.err
    assert "url" in refused.err.lower()


async def test_ingest_shows_a_bar_on_a_terminal(server: Server, source: SourceServer) -> None:
    url = source.add("/film.bin", Resource(size=2_000_000))
    screen, terminal = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mediagen", "ingest", url, "--wait", "--server", server.url),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        )
        async with asyncio.timeout(30):
            assert await process.wait() == 0
        shown = os.read(screen, 65536).decode()
    finally:
        os.close(screen)
        os.close(terminal)

    assert "━" in shown


async def test_waiting_goes_on_over_a_restart_of_the_server(server: Server, source: SourceServer) -> None:
    url = source.add("/film", Resource(size=30 << 20, breaks=[Break(after=4 << 20, how="stall", times=1)]))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(mediagen("ingest", url, "--wait", "--json", "--server", server.url))
        await source.log.reaches(lambda log: source.sent("/film") > 1 << 20)

        await server.kill9()
        source.release("/film")
        await server.restart()

    assert waiting.result().status == 0, waiting.result().err
    assert json.loads(waiting.result().out.splitlines()[-1])["status"] == "completed"


async def test_tasks_are_listed_watched_cancelled_and_retried(server: Server, source: SourceServer) -> None:
    url = source.add("/film", Resource(size=30 << 20, breaks=[Break(after=4 << 20, how="stall")]))
    task_id = (await mediagen("ingest", url, "--server", server.url)).out.strip()
    at = ("--server", server.url)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(mediagen("tasks", "watch", task_id, *at))
        await source.log.reaches(lambda log: source.sent("/film") > 1 << 20)

        cancelled = await mediagen("tasks", "cancel", task_id, *at)
    listed = await mediagen("tasks", "ls", "--status", "cancelled", *at)
    as_json = await mediagen("tasks", "ls", "--json", *at)
    retried = await mediagen("tasks", "retry", task_id, "--json", *at)
    refused = await mediagen("tasks", "retry", UNKNOWN, *at)

    assert (watching.result().status, cancelled.status) == (3, 0)
    assert task_id in listed.out
    assert json.loads(as_json.out)["id"] == task_id
    assert json.loads(retried.out)["task"]["attempt"] == 2
    assert (refused.status, "not_found" in refused.err) == (1, True)


@pytest.mark.parametrize("argv", [["tasks", "ls"], ["ingest", "http://example.com/"], ["tasks", "watch", UNKNOWN]])
async def test_a_server_that_is_not_there_is_said_to_be_so(argv: list[str]) -> None:
    done = await mediagen(*argv, "--server", NOBODY)

    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"mediagen: no mediagen server answers at {NOBODY} (connection refused: is it running? mediagen serve)\n"
    )


async def test_something_else_at_the_address_is_said_to_be_so(source: SourceServer) -> None:
    url = source.add("/v1/tasks", Resource(body=b"<html>"))

    done = await mediagen("tasks", "ls", "--server", url.removesuffix("/v1/tasks"))

    assert (done.status, "is no mediagen server" in done.err) == (2, True)


async def test_check_prints_what_is_in_effect_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "mediagen.toml").write_text('[server]\nport = 99\n[storage.s3]\nsecret_access_key = "s3cret"\n')

    done = await mediagen("check", cwd=tmp_path, MEDIAGEN_LOG__LEVEL="debug")

    shown = json.loads(done.out)
    assert done.status == 0
    assert (shown["server"]["port"], shown["log"]["level"]) == (99, "debug")
    assert "s3cret" not in done.out + done.err
    assert "mediagen.toml" in done.err


async def test_check_tells_warnings_from_errors(tmp_path: Path) -> None:
    (tmp_path / "mediagen.toml").write_text(f"[server]\nport = {free_ports(1)[0]}\n")
    warned = await mediagen("check", cwd=tmp_path, MEDIAGEN_SERVER__HOST="0.0.0.0", MEDIAGEN_AUTH__REQUIRED="false")
    locked = await mediagen("check", cwd=tmp_path, MEDIAGEN_SERVER__HOST="0.0.0.0")
    short = await mediagen("check", cwd=tmp_path, MEDIAGEN_AUTH__ADMIN_KEY="not-long")
    behind = await mediagen("check", cwd=tmp_path, MEDIAGEN_SERVER__PUBLIC_URL="https://media.example.com")
    unknown = await mediagen("check", cwd=tmp_path, MEDIAGEN_SEVER__HOST="x")

    assert (warned.status, locked.status, short.status, behind.status, unknown.status) == (1, 0, 1, 1, 2)
    assert "warning: auth.required" in warned.err
    assert "warning: auth.admin_key" in short.err
    assert "not-long" not in short.out + short.err
    assert "warning: auth.required" in behind.err
    assert "did you mean MEDIAGEN_SERVER?" in unknown.err


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SERVER__HOST": "nowhere.invalid"}, "error: server.host: 'nowhere.invalid' does not resolve"),
        ({"SERVER__HOST": "192.0.2.1"}, "error: server.host: 192.0.2.1: is not an address of this machine"),
        ({"STORAGE__BACKEND": "s3"}, "error: storage.s3.bucket: is empty"),
        (
            {"STORAGE__BACKEND": "s3", "STORAGE__S3__BUCKET": "b", "STORAGE__S3__ACCESS_KEY_ID": "a"},
            "error: storage.s3.secret_access_key: is empty",
        ),
        (
            {"STORAGE__BACKEND": "s3", "STORAGE__S3__BUCKET": "b", "STORAGE__S3__ENDPOINT_URL": "s3.example.com"},
            "error: storage.s3.endpoint_url: 's3.example.com' is not a URL",
        ),
        (
            {"STORAGE__BACKEND": "s3", "STORAGE__S3__BUCKET": "b", "STORAGE__S3__CA_FILE": "/nowhere.pem"},
            "error: storage.s3.ca_file: there is no file /nowhere.pem",
        ),
        ({"PROVIDERS": '{"mine": {"type": "openai"}}'}, "error: providers.mine.api_key: is empty"),
        ({"FETCH__ALLOW_CIDRS": '["10.0.0.0/99"]'}, "error: MEDIAGEN_FETCH__ALLOW_CIDRS.0"),
        ({"SERVER__TRUSTED_PROXIES": "proxy"}, "error: MEDIAGEN_SERVER__TRUSTED_PROXIES.0"),
        ({"DATA_DIR": "mediagen.toml"}, "error: data_dir: "),
    ],
)
async def test_check_finds_what_cannot_start(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    (tmp_path / "mediagen.toml").write_text(f"[server]\nport = {free_ports(1)[0]}\n")

    done = await mediagen("check", cwd=tmp_path, **{f"MEDIAGEN_{name}": value for name, value in environ.items()})

    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.status == 2, done.err
    assert len(lines) == 1, done.err
    assert lines[0].startswith(said)


async def test_check_takes_a_local_engine_without_a_key(tmp_path: Path) -> None:
    (tmp_path / "mediagen.toml").write_text(
        f'[server]\nport = {free_ports(1)[0]}\n[providers.local]\ntype = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
    )

    done = await mediagen("check", cwd=tmp_path)

    assert done.status == 0, done.err


async def test_check_tells_a_port_that_another_program_has(tmp_path: Path, source: SourceServer) -> None:
    port = urlsplit(source.add("/", Resource(size=1))).netloc.rpartition(":")[2]

    done = await mediagen("check", cwd=tmp_path, MEDIAGEN_SERVER__PORT=port)

    assert (done.status, f"warning: server.port: {port}: " in done.err) == (1, True), done.err


async def test_check_tells_a_lane_that_memory_does_not_suffice_for(tmp_path: Path) -> None:
    (tmp_path / "mediagen.toml").write_text(
        f"[server]\nport = {free_ports(1)[0]}\n"
        '[storage]\nbackend = "s3"\n[storage.s3]\nbucket = "b"\n[tasks.lanes]\ningest = 9\n'
    )

    done = await mediagen("check", cwd=tmp_path)

    assert done.status == 1
    assert "warning: storage.buffer_bytes: of 9 downloads without ranges, 6 run at once" in done.err


async def test_check_is_good_while_the_server_runs(server: Server) -> None:
    done = await mediagen("check", cwd=server.folder)

    assert done.status == 0, done.err


async def test_serve_refuses_a_bad_configuration(tmp_path: Path) -> None:
    short = await mediagen("serve", cwd=tmp_path, MEDIAGEN_AUTH__ADMIN_KEY="short")
    port = await mediagen("serve", "--port", "70000", cwd=tmp_path)
    bucket = await mediagen("serve", cwd=tmp_path, MEDIAGEN_STORAGE__BACKEND="s3")

    assert (short.status, port.status, bucket.status) == (2, 2, 1)
    assert "mediagen: MEDIAGEN_AUTH__ADMIN_KEY: must have 8 or more" in short.err
    assert port.err.startswith("mediagen: option --port: ")
    assert "cannot start: storage.s3.bucket" in bucket.err


async def test_serve_says_where_it_is(server: Server) -> None:
    await becomes(lambda: "config  " in server.log.read_text())  # the first request may come before it is printed
    banner = server.log.read_text()

    assert f"API     {server.url}/v1" in banner
    assert f"data    {server.data_dir}" in banner


async def test_version() -> None:
    done = await mediagen("--version")

    assert (done.status, done.out.split()[0]) == (0, "mediagen")
