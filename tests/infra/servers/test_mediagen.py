"""The server fixture: settings as a file, and a process that is started, killed and started again."""

import os
import tomllib
import urllib.request
from pathlib import Path

import pytest

from tests.infra.servers.mediagen import Server, merged, to_toml


def test_settings_as_toml_read_back_the_same() -> None:
    settings = {
        "data_dir": 'a "quoted" \\ path',
        "fetch": {"allow_cidrs": ["127.0.0.0/8"], "total_seconds": 1.5},
        "storage": {"s3": {"bucket": "b", "auto_cors": True, "part_bytes": 8 << 20}},
        "tasks": {"lanes": {"ingest": 4}, "history_days": 30},
    }

    assert tomllib.loads(to_toml(settings)) == settings


def test_settings_are_merged_table_by_table() -> None:
    base = {"server": {"host": "127.0.0.1", "port": 1}, "data_dir": "d"}

    assert merged(base, {"server": {"port": 2}}) == {"server": {"host": "127.0.0.1", "port": 2}, "data_dir": "d"}


def status(url: str) -> int:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return int(answer.status)


@pytest.mark.e2e
async def test_kill_and_restart_on_the_same_port(tmp_path: Path) -> None:
    async with Server(tmp_path) as server:
        first = server.pid
        assert status(f"{server.url}/readyz") == 200
        assert server.resident_bytes(peak=True) >= server.resident_bytes() > 10 << 20
        assert server.descriptors > 3
        assert server.data_dir.is_dir()

        await server.kill9()
        assert not Path(f"/proc/{first}").exists()
        await server.restart()
        assert server.pid != first
        assert status(f"{server.url}/readyz") == 200

        assert await server.stop() == 0


@pytest.mark.e2e
async def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    server = Server(tmp_path, {"no_such_setting": 1})

    with pytest.raises(RuntimeError, match="no_such_setting"):
        await server.start()

    assert os.listdir(tmp_path)
