"""What goes wrong outside of the server, as its clients see it."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api, Failure, Refused, Task
from tests.infra.content import content_bytes
from tests.infra.process import need
from tests.infra.resource import Answer, Break, Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.mediagen import Server
from tests.infra.servers.radosgw import free_ports
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20


async def failed(api: Api, url: str, **fields: Any) -> Failure:
    """Why a task failed that must fail."""
    task: Task = await api.ended((await api.ingest(url, **fields))["id"])
    assert task["status"] == "failed", task
    assert task["error"] is not None
    return task["error"]


@pytest.mark.parametrize(("backend", "how"), [("local", "rst"), ("s3", "fin")])
async def test_a_source_that_breaks_every_time(
    tmp_path: Path, source: SourceServer, bucket: Bucket, backend: str, how: Any
) -> None:
    url = source.add("/film", Resource(size=20 * MIB, ranges="no", breaks=[Break(after=18 * MIB, how=how)]))
    settings = {"fetch": {"attempts": 2}, **(configuration.s3(bucket) if backend == "s3" else {})}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        error = await failed(api, url)

        assert error["code"] == ("source_truncated" if how == "fin" else "fetch_failed")
        assert error["retryable"] is True
        assert len(source.requests("/film")) == 2
        await leavings.only(bucket)
        leavings.only_here(server)
        assert await api.files() == []


async def test_a_source_without_a_length_that_ends_too_early(tmp_path: Path, source: SourceServer) -> None:
    """The end of the connection looks like the end of the file; the file says otherwise."""
    box = (8 * MIB).to_bytes(4, "big") + b"mdat"
    film = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp41" + box + content_bytes(4 * MIB)
    url = source.add("/film", Resource(body=film, media_type="video/mp4", ranges="no", framing="close"))
    async with Server(tmp_path, {"fetch": {"attempts": 1}}) as server, Api(server.url) as api:
        assert (await failed(api, url))["code"] == "source_truncated"
        leavings.only_here(server)


async def test_statuses_silence_and_nobody_there(tmp_path: Path, source: SourceServer) -> None:
    gone = source.add("/gone", Resource(always=Answer(404)))
    silent = source.add("/silent", Resource(size=MIB, ranges="no", breaks=[Break(after=1000, how="stall")]))
    limits = {"attempts": 2, "stall_seconds": 0.3, "connect_seconds": 2}
    async with Server(tmp_path, {"fetch": limits}) as server, Api(server.url) as api:
        error = await failed(api, gone)
        assert (error["code"], error["retryable"]) == ("fetch_failed", False)
        assert len(source.requests("/gone")) == 2  # by range, then without

        error = await failed(api, silent)
        assert (error["code"], error["retryable"]) == ("source_stalled", True)
        assert len(source.requests("/silent")) == 2

        error = await failed(api, "http://127.0.0.1:1/nobody")
        assert (error["code"], error["retryable"]) == ("fetch_failed", True)
        leavings.only_here(server)


async def test_urls_that_are_refused_at_once(tmp_path: Path) -> None:
    urls = ("file:///etc/passwd", "ftp://127.0.0.1/a", "http://user:word@127.0.0.1/a", "gopher://a", "http://a b/")
    async with Server(tmp_path) as server, Api(server.url) as api:
        for url in urls:
            with pytest.raises(Refused) as refused:
                await api.ingest(url)
            assert (refused.value.status, refused.value.code) == (400, "url_not_allowed"), url

        assert await api.tasks() == []


async def test_addresses_that_are_not_allowed(tmp_path: Path, source: SourceServer) -> None:
    source.add("/secret", Resource(size=1000))
    elsewhere = f"http://127.0.0.2:{source.port}/secret"
    urls = [
        elsewhere,
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:10.0.0.1]/",
        "http://0x7f000002/",
        source.redirect("/away", elsewhere, hops=2),
    ]
    settings = {"fetch": {"allow_cidrs": ["127.0.0.1/32"]}}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        for url in urls:
            error = await failed(api, url)
            assert (error["code"], error["retryable"]) == ("url_not_allowed", False), url
        assert source.requests("/secret") == []
        leavings.only_here(server)


async def test_refusals_do_not_tell_what_listens_where(tmp_path: Path, source: SourceServer) -> None:
    (closed,) = free_ports(1)
    source.add("/secret", Resource(size=1000))
    places = {
        "open": f"127.0.0.2:{source.port}",
        "closed": f"127.0.0.2:{closed}",
        "nobody": "10.255.255.1:80",
        "metadata": "169.254.169.254",
    }
    async with Server(tmp_path, {"fetch": {"allow_cidrs": ["127.0.0.1/32"]}}) as server, Api(server.url) as api:
        said: dict[str, str] = {}
        for name, place in places.items():
            error = await failed(api, f"http://{place}/secret")
            said[name] = f"{error['code']} {error['message']}".replace(place.partition(":")[0], "HOST")
        redirected = {
            name: await failed(api, source.redirect(f"/to-{name}", f"http://{place}/secret", hops=1))
            for name, place in places.items()
        }

    assert len(set(said.values())) == 1, said
    hidden = {error["message"].replace(places[name].partition(":")[0], "HOST") for name, error in redirected.items()}
    assert len(hidden) == 1, hidden


async def test_limits_of_kind_and_size(tmp_path: Path, source: SourceServer) -> None:
    big = source.add("/big", Resource(size=3 * MIB))
    creeping = source.add("/creeping", Resource(size=3 * MIB, ranges="no", framing="chunked"))
    async with Server(tmp_path, {"limits": {"file_bytes": 2 * MIB}}) as server, Api(server.url) as api:
        assert (await failed(api, big))["code"] == "too_large"
        assert (await failed(api, creeping))["code"] == "too_large"
        assert (await failed(api, big, kind="image"))["code"] == "unsupported_media"
        leavings.only_here(server)


class Unready(Server):
    """A server that answers although it takes no work."""

    def _answers(self) -> bool:
        return super()._answers() or "server_ready" in self.log.read_text()


async def test_wrong_credentials_of_the_store(tmp_path: Path, source: SourceServer, bucket: Bucket) -> None:
    url = source.add("/film", Resource(size=20 * MIB))
    settings = configuration.s3(bucket, secret_access_key="not the secret")
    async with Unready(tmp_path, settings) as server, Api(server.url) as api:
        with pytest.raises(Refused) as refused:
            await api.call("GET", "/readyz")
        assert refused.value.status == 503
        checks = refused.value.problem["checks"]
        assert [name for name, check in checks.items() if not check["ok"]] == ["storage"]
        assert (await api.call("GET", "/livez"))["status"] == "ok"

        error = await failed(api, url)

        assert (error["code"], error["retryable"]) == ("storage_unavailable", False)
        assert "403" in error["message"]
        secrets = ("not the secret", bucket.store.admin.secret_key)
        assert not any(secret in server.log.read_text() for secret in secrets)
        await leavings.only(bucket)


async def test_a_bucket_that_is_not_there(tmp_path: Path, source: SourceServer, bucket: Bucket) -> None:
    url = source.add("/film", Resource(size=1000))
    async with Unready(tmp_path, configuration.s3(bucket, bucket="no-such-bucket")) as server, Api(server.url) as api:
        with pytest.raises(Refused) as refused:
            await api.call("GET", "/readyz")
        assert refused.value.status == 503

        error = await failed(api, url)

        assert (error["code"], error["retryable"]) == ("storage_unavailable", False)
        assert "NoSuchBucket" in error["message"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 24 MiB."""
    need("mount", "umount")
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_full_disk(tmp_path: Path, source: SourceServer, small_disk: Path) -> None:
    announced = source.add("/announced", Resource(size=40 * MIB))
    silent = source.add("/silent", Resource(size=40 * MIB, ranges="no", framing="chunked"))
    small = source.add("/small", Resource(size=MIB))
    settings = {"data_dir": str(small_disk), "storage": {"reserve_bytes": 4 * MIB}}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        for url in (announced, silent):
            error = await failed(api, url)
            assert (error["code"], error["retryable"]) == ("storage_full", False)

        body = io.BytesIO(b'{"data": "' + b"QUJD" * (10 * MIB) + b'"}')
        with pytest.raises(Refused) as refused:
            await api.call("POST", "/v1/ingest", data=body, headers={"Content-Type": "application/json"})
        assert (refused.value.status, refused.value.code) == (507, "storage_full")

        assert not any((small_disk / "media").rglob("*.part"))
        file = await api.completed((await api.ingest(small))["id"])
        assert [entry["id"] for entry in await api.files()] == [file["id"]]
        assert (await api.call("GET", "/readyz"))["status"] == "ok"
