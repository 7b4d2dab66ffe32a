"""``mediagen keys``: with a running server, without one, and what is left when one died."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import mediagen
from tests.e2e.api import Api
from tests.infra.servers.mediagen import Server


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(tmp_path, {"auth": {"required": True}}) as started:
        yield started


def config(server: Server) -> tuple[str, str]:
    return "--config", str(server.folder / "mediagen.toml")


async def keys(server: Server, *argv: str) -> list[Any]:
    """What a ``keys`` command prints as JSON."""
    done = await mediagen("keys", *argv, "--json", *config(server))
    assert done.status == 0, done
    return [json.loads(line) for line in done.out.splitlines()]


async def opens(server: Server, key: str) -> bool:
    async with Api(server.url) as api:
        headers = {"Authorization": f"Bearer {key}"}
        async with api.session.get("/v1/tasks", headers=headers) as answer:
            assert answer.status in {200, 401}
            return answer.status == 200


async def test_a_running_server_takes_a_key_at_once(closed: Server) -> None:
    (made,) = await keys(closed, "create", "app", "--scopes", "read,write", "--expires-days", "30")

    assert set(made) > {"id", "name", "key"}
    assert (made["name"], made["scopes"]) == ("app", ["read", "write"])
    assert await opens(closed, made["key"])
    (new,) = await keys(closed, "rotate", "app", "--overlap-hours", "0")
    assert not await opens(closed, made["key"])
    assert await opens(closed, new["key"])
    assert [row["status"] for row in await keys(closed, "list")] == ["expired", "active"]
    await keys(closed, "revoke", new["id"])
    assert not await opens(closed, new["key"])


async def test_keys_are_made_before_the_first_start(tmp_path: Path) -> None:
    server = Server(tmp_path, {"auth": {"required": True}})
    (made,) = await keys(server, "create", "app", "--init")
    (new,) = await keys(server, "rotate", made["id"])

    async with server:
        assert await opens(server, made["key"])
        assert await opens(server, new["key"])
        await server.kill9()
        assert (server.data_dir / "operator.json").exists()
        # the file that the dead one left misleads nobody
        await keys(server, "revoke", "app")
        await server.restart()
        assert not await opens(server, new["key"])


async def test_the_commands_send_the_key_of_the_environment(closed: Server) -> None:
    (made,) = await keys(closed, "create", "app")

    refused = await mediagen("tasks", "ls", "--server", closed.url)
    let_in = await mediagen("tasks", "ls", "--server", closed.url, MEDIAGEN_KEY=made["key"])

    assert (refused.status, let_in.status) == (2, 0)
    assert refused.err.startswith("mediagen: unauthorized: ")
    assert "MEDIAGEN_KEY" in refused.err


async def test_a_key_is_printed_alone_for_scripts(closed: Server) -> None:
    done = await mediagen("keys", "create", "app", *config(closed))

    assert await opens(closed, done.out.strip())
    assert "cannot be shown again" in done.err
    listed = await mediagen("keys", "list", *config(closed))
    assert "app" in listed.out
    assert done.out.strip() not in listed.out


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (["create", "a/b"], 2, "invalid_request: name"),
        (["create", "a", "--scopes", "root"], 2, "invalid_request: scopes"),
        (["revoke", "nobody"], 1, "not_found: there is no key nobody"),
        (["rotate", "nobody"], 1, "not_found: there is no key nobody"),
    ],
)
@pytest.mark.parametrize("running", [True, False])
async def test_what_cannot_be_is_said(tmp_path: Path, argv: list[str], status: int, said: str, running: bool) -> None:
    server = Server(tmp_path)
    if running:
        await server.start()
    else:
        await keys(server, "create", "first", "--init")
    try:
        done = await mediagen("keys", *argv, *config(server))
    finally:
        if running:
            await server.stop()

    assert (done.status, done.out) == (status, "")
    assert said in done.err


async def test_no_secret_rests_in_the_data_directory(tmp_path: Path) -> None:
    async with Server(tmp_path, {"auth": {"required": True, "admin_key": "a-configured-key"}}) as server:
        (made,) = await keys(server, "create", "app")
        assert await opens(server, made["key"])
        assert await opens(server, "a-configured-key")
        assert not await opens(server, f"{made['key'][:-1]}!")
        operator = json.loads((server.data_dir / "operator.json").read_text())["key"]
        resting = {path: path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file()}
        log = server.log.read_bytes()

    secrets = [made["key"].rpartition("_")[2].encode()[-20:], b"a-configured-key"]
    assert os.fsencode(server.data_dir / "mediagen.db-wal") in map(os.fsencode, resting)
    for path, data in resting.items():
        assert not [secret for secret in secrets if secret in data], path
        assert (operator.encode() in data) == (path.name == "operator.json"), path
    assert not [secret for secret in (*secrets, operator.encode()) if secret in log]


@pytest.mark.parametrize(
    "argv", [["keys", "create", "a"], ["keys", "list"], ["keys", "revoke", "a"], ["webhooks", "rotate"]]
)
async def test_the_wrong_folder_is_told_and_nothing_is_made(tmp_path: Path, argv: list[str]) -> None:
    done = await mediagen(*argv, cwd=tmp_path)

    assert (done.status, done.out) == (2, "")
    assert f"there is no database at {tmp_path}/data/mediagen.db" in done.err
    assert "--data-dir" in done.err
    assert "--config" in done.err
    assert list(tmp_path.iterdir()) == []


async def test_the_data_directory_can_be_named_and_is_told(tmp_path: Path) -> None:
    there = tmp_path / "there"
    made = await mediagen("keys", "create", "a", "--init", "--data-dir", str(there), cwd=tmp_path)
    listed = await mediagen("keys", "list", "--data-dir", str(there), cwd=tmp_path)

    assert (made.status, listed.status) == (0, 0)
    assert f"data directory: {there}" in made.err
    assert f"data directory: {there}" in listed.err
    assert "a" in listed.out


async def test_init_uses_the_database_that_is_there(tmp_path: Path) -> None:
    first = await mediagen("keys", "create", "a", "--init", cwd=tmp_path)
    second = await mediagen("keys", "create", "b", "--init", cwd=tmp_path)
    listed = await mediagen("keys", "list", cwd=tmp_path)

    assert (first.status, second.status, len(listed.out.splitlines())) == (0, 0, 2)
