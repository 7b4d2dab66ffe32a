"""Starts that are refused, with a reason that helps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.api import Api, Refused
from tests.e2e.waiting import becomes
from tests.infra.servers.mediagen import Server

pytestmark = pytest.mark.e2e


def serve(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A server that is expected to end by itself."""
    argv = [sys.executable, "-m", "mediagen", "serve", *options]
    env = {**os.environ, **environment}
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=20)


async def test_one_server_for_one_data_folder(tmp_path: Path) -> None:
    async with Server(tmp_path) as server, Api(server.url) as api:
        second = serve(tmp_path, "--port", "0", "--data-dir", str(server.data_dir))

        assert second.returncode == 1
        assert f"another mediagen (process {server.pid}) uses {server.data_dir}" in second.stderr
        assert "Traceback" not in second.stderr
        assert (await api.call("GET", "/readyz"))["status"] == "ok"

        await server.kill9()
        await server.restart()  # the lock goes with the process


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    async with Server(tmp_path) as server:
        second = serve(tmp_path, "--port", str(server.port), "--data-dir", str(tmp_path / "other"))

    assert second.returncode == 1
    assert "cannot start" in second.stderr
    assert str(server.port) in second.stderr
    assert "Traceback" not in second.stderr


def test_settings_that_do_not_exist(tmp_path: Path) -> None:
    config = tmp_path / "mediagen.toml"
    config.write_text('colour = "red"\n[fetch]\nstall_secondes = 3\n[storage.s3]\npart_bytes = 3\n')

    refused = serve(tmp_path, MEDIAGEN_TASKS__LANE="3")

    assert refused.returncode == 2
    assert "colour" in refused.stderr
    assert "did you mean fetch.stall_seconds?" in refused.stderr
    assert "MEDIAGEN_TASKS__LANE" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "data").exists()


def test_values_that_cannot_be(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("[storage.s3]\npart_bytes = 3\n[server]\nport = 99999\n")

    refused = serve(tmp_path, "--config", str(config))

    assert refused.returncode == 2
    assert f"{config}: storage.s3.part_bytes" in refused.stderr
    assert f"{config}: server.port" in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_no_open_door(tmp_path: Path) -> None:
    async with Server(tmp_path, {"server": {"host": "0.0.0.0"}}) as server, Api(server.url) as api:
        with pytest.raises(Refused) as refused:
            await api.tasks()

        assert refused.value.status == 401
        await becomes(lambda: "there is none yet: mediagen keys create NAME" in server.log.read_text())
