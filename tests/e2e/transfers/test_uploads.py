"""Files that clients send: whole into either store; and killed in the middle, nothing stays."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api, File, Refused
from tests.e2e.crashes.test_kill_phases import rows_withheld
from tests.e2e.traffic import Traffic
from tests.e2e.waiting import becomes, logged
from tests.infra.content import content_bytes, crc32_of, sha256_of
from tests.infra.s3 import Bucket
from tests.infra.servers.faults import s3_error
from tests.infra.servers.mediagen import Server

pytestmark = pytest.mark.e2e

MIB = 1 << 20
SIZE = 60_000_000
FORM = {"Content-Type": "multipart/form-data; boundary=frontier"}
BEFORE = b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
AFTER = b"\r\n--frontier--\r\n"


async def pieces(*parts: bytes, step: int = 300_001) -> AsyncIterator[bytes]:
    """A body of a length that is not announced."""
    for data in parts:
        for start in range(0, len(data), step):
            yield data[start : start + step]


@pytest.mark.parametrize("as_form", [False, True])
@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_a_file_is_sent_seen_and_deleted(tmp_path: Path, bucket: Bucket, backend: str, as_form: bool) -> None:
    data = content_bytes(SIZE)
    settings = configuration.s3(bucket) if backend == "s3" else {}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        body = pieces(BEFORE, data, AFTER) if as_form else pieces(data)
        headers = FORM if as_form else {"X-Filename": "a.bin"}
        file: File = await api.call("POST", "/v1/files", data=body, headers=headers)

        assert (file["filename"], file["bytes"], file["task_id"]) == ("a.bin", SIZE, None)
        assert file["checksum"]["value"] == f"{crc32_of(SIZE):08x}"
        assert file["sha256"] in (None, sha256_of(SIZE))
        if backend == "s3":
            await leavings.only(bucket, file)
            (key,) = await bucket.keys()
            assert await bucket.sha256(key) == sha256_of(SIZE)
            leavings.nothing_beside_the_database(server)
        else:
            leavings.only_here(server, file)
            assert (await api.content(file)).sha256 == sha256_of(SIZE)
        assert owed(server) == []

        async with api.session.delete(f"/v1/files/{file['id']}") as answer:
            assert answer.status == 204
        assert await api.files() == []
        leavings.only_here(server)
        await leavings.only(bucket)


@pytest.mark.parametrize("as_form", [False, True])
async def test_killed_in_the_middle_nothing_stays_on_the_disk(tmp_path: Path, as_form: bool) -> None:
    async with Server(tmp_path) as server:
        async with begun(server, as_form):
            await becomes(lambda: bool(leavings.media(server)))
            await server.kill9()
        assert len(owed(server)) == 1

        await server.restart()

        await becomes(lambda: owed(server) == [])
        leavings.only_here(server)
        async with Api(server.url) as api:
            assert await api.files() == []


@pytest.mark.parametrize("as_form", [False, True])
async def test_killed_in_the_middle_nothing_stays_in_the_bucket(tmp_path: Path, bucket: Bucket, as_form: bool) -> None:
    async with Server(tmp_path, configuration.s3(bucket)) as server:
        async with begun(server, as_form):
            async with asyncio.timeout(20):
                while not [part for upload in await bucket.uploads() for part in await bucket.parts(upload)]:
                    await asyncio.sleep(0.02)
            await server.kill9()
        assert len(owed(server)) == 1

        await server.restart()

        await becomes(lambda: owed(server) == [])
        await becomes(lambda: len(logged(server, "debt_settled")) == 1)
        await leavings.only(bucket)
        leavings.nothing_beside_the_database(server)
        async with Api(server.url) as api:
            assert await api.files() == []


@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_killed_between_the_object_and_its_row(tmp_path: Path, bucket: Bucket, backend: str) -> None:
    async def objects() -> list[str]:
        """What a reader of the store would see."""
        if backend == "s3":
            return await bucket.keys()
        return [path.name for path in leavings.media(server) if ".uploads" not in path.parts]

    settings = configuration.s3(bucket) if backend == "s3" else {}
    async with Server(tmp_path, settings) as server:
        async with begun(server, False) as send_the_rest:
            await becomes(lambda: len(owed(server)) == 1)
            with rows_withheld(server):
                await send_the_rest()
                async with asyncio.timeout(20):
                    while not await objects():
                        await asyncio.sleep(0.01)
                await server.kill9()
        assert len(owed(server)) == 1

        await server.restart()

        await becomes(lambda: owed(server) == [])
        leavings.only_here(server)
        await leavings.only(bucket)
        async with Api(server.url) as api:
            assert await api.files() == []


@pytest.mark.parametrize(("method", "target"), [("PUT", "partNumber=3"), ("POST", "uploads"), ("POST", "uploadId=")])
async def test_a_store_that_refuses_in_the_middle(
    tmp_path: Path, bucket: Bucket, traffic: Traffic, method: str, target: str
) -> None:
    traffic.proxy.add(s3_error(403, "AccessDenied"), method, target)
    async with Server(tmp_path, configuration.s3(bucket, traffic.proxy.url)) as server, Api(server.url) as api:
        with pytest.raises(Refused) as refused:
            await api.call("POST", "/v1/files", data=pieces(content_bytes(SIZE)))

        assert (refused.value.status, refused.value.code) == (503, "storage_unavailable")
        assert (await api.files(), owed(server)) == ([], [])
        await leavings.only(bucket)


@asynccontextmanager
async def begun(server: Server, as_form: bool) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Meanwhile an upload waits for its last bytes, which what is given sends."""
    _, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    head, tail = (BEFORE, AFTER) if as_form else (b"", b"")
    kind = f"Content-Type: {FORM['Content-Type']}\r\n" if as_form else ""
    length = len(head) + SIZE + len(tail)
    writer.write(f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {length}\r\n\r\n".encode())
    writer.write(head + content_bytes(SIZE)[:-1000])

    async def send_the_rest() -> None:
        writer.write(content_bytes(SIZE)[-1000:] + tail)
        await writer.drain()

    try:
        await writer.drain()
        yield send_the_rest
    finally:
        writer.transport.abort()


def owed(server: Server) -> list[Any]:
    """What the database says is still to be removed from the store, beside what is looked for again."""
    with closing(sqlite3.connect(f"file:{server.data_dir}/mediagen.db?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT state FROM owed_aborts WHERE state ->> 'look' IS NULL")
        return [json.loads(row[0]) for row in rows]
