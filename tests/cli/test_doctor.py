"""``mediagen doctor`` and ``mediagen health``."""

from __future__ import annotations

import errno
import json
import sqlite3
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mediagen.cli import machine
from mediagen.cli.roundtrip import clock, store_findings
from mediagen.settings import Settings
from mediagen.streams.base import GIB, MIB
from tests.cli.test_commands import NOBODY, mediagen
from tests.infra.resource import Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.mediagen import Server
from tests.infra.servers.radosgw import RadosGW
from tests.infra.servers.source import SourceServer


def _by_name(out: str) -> dict[str, dict[str, Any]]:
    findings = [json.loads(line) for line in out.splitlines()]
    return {finding["name"]: finding for finding in findings}


async def test_health_is_that_of_the_server(tmp_path: Path) -> None:
    async with Server(tmp_path) as server:
        ready = await mediagen("health", "--url", server.url)
        named = await mediagen("health", MEDIAGEN_SERVER=server.url)

    assert (ready.status, ready.out, ready.err) == (0, "ready\n", "")
    assert named.status == 0


async def test_health_reads_the_configuration(tmp_path: Path) -> None:
    async with Server(tmp_path) as server:
        here = await mediagen("health", cwd=server.folder)
        named = await mediagen("health", "--config", str(server.folder / "mediagen.toml"))
        tasks = await mediagen("tasks", "ls", cwd=server.folder)
    nobody = await mediagen("health", cwd=server.folder)
    broken = await mediagen("health", cwd=server.folder, MEDIAGEN_SEVER__PORT="1")

    assert [done.status for done in (here, named, tasks)] == [0, 0, 0], (here, named, tasks)
    assert nobody.status == 1
    assert f"no mediagen server answers at http://127.0.0.1:{server.port}" in nobody.err
    assert broken.status == 1
    assert "MEDIAGEN_SEVER__PORT: there is no such setting" in broken.err


async def test_health_finds_a_server_on_a_free_port(tmp_path: Path) -> None:
    async with Server(tmp_path) as server:
        server.configure({"server": {"port": 1}})  # since it started, another port has been written there

        done = await mediagen("health", cwd=server.folder)

    assert done.status == 0, done.err


async def test_health_says_what_is_wrong(source: SourceServer) -> None:
    checks = {"storage": {"ok": False, "detail": "the bucket is gone"}, "database": {"ok": True, "detail": None}}
    body = json.dumps({"status": "unavailable", "checks": checks}).encode()
    url = source.add("/readyz", Resource(body=body)).removesuffix("/readyz")

    ill = await mediagen("health", "--url", url)
    nobody = await mediagen("health", "--url", NOBODY)

    assert (ill.status, ill.err) == (1, "mediagen: not ready: storage: the bucket is gone\n")
    assert (nobody.status, nobody.out) == (1, "")
    assert "no mediagen server answers" in nobody.err


async def test_doctor_finds_nothing_wrong_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "data" / "media").mkdir(parents=True)

    done = await mediagen("doctor", "--json", cwd=tmp_path)

    findings = _by_name(done.out)
    assert done.status == 0, done.out
    assert list(findings) == [
        "configuration",
        "data directory",
        "free space",
        "store",
        "sqlite",
        "open files",
        "ffmpeg",
        "ffprobe",
    ]
    assert findings["store"]["says"] == "local: wrote, read and deleted 4096 bytes"
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []


async def test_doctor_makes_no_folder_before_the_first_start(tmp_path: Path) -> None:
    done = await mediagen("doctor", cwd=tmp_path)

    assert done.status == 0, done.out
    assert "will be made by the first start" in done.out
    assert list(tmp_path.iterdir()) == []


async def test_doctor_fails_where_the_configuration_does_and_says_what_to_do(tmp_path: Path) -> None:
    done = await mediagen("doctor", cwd=tmp_path, MEDIAGEN_SEVER__PORT="1")

    assert done.status == 1
    assert "fail  configuration   MEDIAGEN_SEVER__PORT: there is no such setting" in done.out
    assert "→ correct it" in done.out
    assert "ok    sqlite" in done.out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bucket": "", "endpoint_url": NOBODY}, "storage.s3.bucket is not set"),
        ({"bucket": "b", "endpoint_url": NOBODY, "access_key_id": "half"}, "missing: aws_secret_access_key"),
        ({"bucket": "b", "endpoint_url": "nowhere", "access_key_id": "a", "secret_access_key": "s"}, "nowhere"),
        ({"bucket": "b", "endpoint_url": NOBODY, "access_key_id": "a", "secret_access_key": "s", "attempts": 1}, ""),
    ],
)
async def test_a_store_that_cannot_be_used_is_a_failure(settings: dict[str, Any], said: str) -> None:
    (finding,) = await store_findings(Settings(storage={"backend": "s3", "s3": settings}))

    assert (finding.name, finding.status) == ("store", "fail")
    assert said in finding.says
    assert finding.advice


async def test_a_bucket_is_written_read_and_left_as_it_was(bucket: Bucket, radosgw: RadosGW) -> None:
    user = radosgw.admin
    s3 = {
        "bucket": bucket.name,
        "prefix": "mine/",
        "endpoint_url": radosgw.endpoint,
        "access_key_id": user.access_key,
        "secret_access_key": user.secret_key,
    }

    store, time = await store_findings(Settings(storage={"backend": "s3", "s3": s3}))

    assert (store.status, time.name, time.status) == ("ok", "clock", "ok"), (store, time)
    assert await bucket.keys() == []
    assert user.secret_key not in store.says


@pytest.mark.parametrize(
    ("seconds", "status", "said"),
    [
        (0.4, "ok", "as the store's"),
        (-5, "ok", "5 s behind"),
        (31, "warn", "31 s ahead of"),
        (-901, "fail", "901 s behind"),
    ],
)
def test_a_wrong_clock_is_told_by_how_much(seconds: float, status: str, said: str) -> None:
    finding = clock(timedelta(seconds=seconds))

    assert (finding.status, bool(finding.advice)) == (status, status != "ok")
    assert finding.says.startswith(said)


def test_little_space_is_a_warning_and_none_a_failure() -> None:
    at = Path("/data")

    assert [machine.free_space(at, free).status for free in (2 * GIB, GIB - 1, 10 * MIB)] == ["ok", "warn", "fail"]


def test_few_open_files_are_a_warning() -> None:
    assert [machine.open_files(limit).status for limit in (-1, 65536, 1024, 100)] == ["ok", "ok", "warn", "fail"]


def test_an_old_sqlite_gets_a_hint() -> None:
    assert "WAL-reset" in machine.sqlite((3, 40, 1)).says
    assert machine.sqlite((3, 51, 3)).says == "3.51.3"


def test_a_directory_that_takes_no_file_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)  # root may write anywhere, so a mode would not do

    (finding,) = machine.data_directory(tmp_path / "data")

    assert (finding.status, "Read-only" in finding.says, bool(finding.advice)) == ("fail", True, True)


async def test_doctor_tells_of_a_clock_that_is_in_doubt_until_it_is_confirmed(tmp_path: Path) -> None:
    async with Server(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "data" / "mediagen.db") as database:
        database.execute("UPDATE meta SET value = '2020-01-01T00:00:00.000000+00:00' WHERE key = 'known_time'")
    database.close()
    config = ("--config", str(tmp_path / "mediagen.toml"))

    doubted = await mediagen("doctor", "--json", *config)
    confirmed = await mediagen("clock", "confirm", *config)
    after = await mediagen("doctor", "--json", *config)

    finding = _by_name(doubted.out)["recorded time"]
    assert (finding["status"], "mediagen clock confirm" in finding["advice"]) == ("warn", True)
    assert (confirmed.status, confirmed.out[:6]) == (0, "it is ")
    assert "recorded time" not in _by_name(after.out)
