"""The other event loop, which operators may choose, carries out the same work."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api
from tests.infra.content import content_bytes, crc32_of
from tests.infra.resource import Break, Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20


@pytest.mark.parametrize("place", ["local", "s3"])
async def test_every_lane_and_an_orderly_end(tmp_path: Path, source: SourceServer, bucket: Bucket, place: str) -> None:
    store = {} if place == "local" else configuration.s3(bucket, bucket.store.tls_endpoint, serve="stream")
    settings = {"server": {"event_loop": "uvloop"}, **store}
    sizes = {"/ranges": 40 * MIB, "/length": 20 * MIB, "/chunked": 9 * MIB + 1, "/small": 1000}
    source.add("/ranges", Resource(size=sizes["/ranges"]))
    source.add("/length", Resource(size=sizes["/length"], ranges="no"))
    source.add("/chunked", Resource(size=sizes["/chunked"], ranges="no", framing="chunked"))
    source.add("/small", Resource(size=sizes["/small"]))
    stalled = source.add("/stalled", Resource(size=40 * MIB, breaks=[Break(after=MIB, how="stall")]))
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        tasks = {path: await api.ingest(source.url(path)) for path in sizes}
        files = {path: await api.completed(task["id"]) for path, task in tasks.items()}
        body = io.BytesIO(b'{"data": "' + b"QUJD" * (3 * MIB) + b'"}')
        headers = {"Content-Type": "application/json"}
        raw = io.BytesIO(content_bytes(9 * MIB))
        uploaded = await api.call("POST", "/v1/files", data=raw, headers={"X-Filename": "raw"})
        sent = (await api.call("POST", "/v1/ingest", data=body, headers=headers))["result"]["file"]

        found = {path: (file["bytes"], file["checksum"]["value"]) for path, file in files.items()}
        assert found == {path: (size, f"{crc32_of(size):08x}") for path, size in sizes.items()}
        assert sent["bytes"] == 9 * MIB
        assert uploaded["checksum"]["value"] == f"{crc32_of(9 * MIB):08x}"
        assert (await api.content(files["/ranges"])).crc32 == crc32_of(40 * MIB)
        two = {"Range": f"bytes=0-99,{MIB}-{3 * MIB - 1}"}
        async with api.session.get(f"/v1/files/{files['/small']['id']}/content", headers=two) as answer:
            assert (answer.status, answer.headers["Content-Range"]) == (206, "bytes 0-99/1000")
        async with api.session.get(f"/v1/files/{files['/ranges']['id']}/content", headers=two) as answer:
            assert (answer.status, answer.content_type) == (206, "multipart/byteranges")
            assert len(await answer.read()) == answer.content_length
        if place == "local":
            leavings.only_here(server, sent, uploaded, *files.values())
        else:
            await leavings.only(bucket, sent, uploaded, *files.values())
            (key,) = [key for key in await bucket.keys() if files["/ranges"]["id"] in key]
            assert await bucket.crc32(key) == crc32_of(40 * MIB)

        running = await api.ingest(stalled)
        await source.log.reaches(lambda _: source.sent("/stalled") >= 2 * MIB)
        began = time.monotonic()
        assert await server.stop() == 0
        assert time.monotonic() - began < 15
        source.release("/stalled")
        await server.restart()
        assert (await api.completed(running["id"]))["checksum"]["value"] == f"{crc32_of(40 * MIB):08x}"
