"""No byte of one object reaches another reader, whatever framings a store mixes and whatever is sent beside it."""

from __future__ import annotations

import asyncio
import random
import ssl
from ipaddress import ip_network
from typing import Literal

import pytest
from pydantic import SecretStr

from mediagen.core.errors import StorageUnavailable
from mediagen.net.download import Fetcher
from mediagen.net.session import guarded_session
from mediagen.net.settings import FetchSettings
from mediagen.storage.s3.storage import S3Storage
from mediagen.storage.settings import S3Settings
from mediagen.streams.base import Source
from mediagen.streams.parts import BufferBody
from tests.contracts.uploads import ABOUT, KEY, the_bytes
from tests.infra.content import content_bytes
from tests.infra.resource import Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.http_messages import read_head, send
from tests.infra.servers.radosgw import RadosGW
from tests.infra.servers.source import SourceServer
from tests.storage.places import s3_place, server_tls
from tests.storage.rawstore import RawStore

READS = 150
AT_ONCE = 16
SIZES = (70_000, 150_000, 260_000)
FRAMINGS: tuple[Literal["length", "chunked"], ...] = ("length", "chunked")


async def read_in_turns(source: Source, rng: random.Random) -> bytes:
    out, buffer = bytearray(), memoryview(bytearray(rng.choice([5_000, 30_000, 100_000])))
    while count := await source.read_into(buffer):
        out += buffer[:count]
        await asyncio.sleep(0)
    return bytes(out)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_objects_read_at_once_from_a_store_that_mixes_framings(radosgw: RadosGW, scheme: str) -> None:
    tls = server_tls(radosgw)
    rng, wrong = random.Random(6), list[str]()
    with SourceServer(tls=tls if scheme == "https" else None) as store:
        objects = iter([(number, rng.choice(SIZES), rng.choice(FRAMINGS)) for number in range(READS)])
        settings = S3Settings(
            bucket="films",
            endpoint_url=f"{scheme}://localhost:{store.port}",
            access_key_id="key",
            secret_access_key=SecretStr("secret"),
            ca_file=str(radosgw.certificate),
        )

        async def work(storage: S3Storage) -> None:
            for number, size, framing in objects:
                # both framings are announced, as some gateways do; the length is what the library wants to see
                store.add(
                    f"/films/videos/{number}",
                    Resource(size=size, seed=number, framing=framing, headers={"Content-Length": str(size)}),
                )
                async with storage.open_source(f"videos/{number}") as source:
                    if await read_in_turns(source, rng) != content_bytes(size, number):
                        wrong.append(f"{number}: other bytes")

        async with S3Storage(settings) as storage, asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work(storage))

    assert wrong == []


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_uploads_reads_and_downloads_by_link_beside_each_other(
    radosgw: RadosGW, bucket: Bucket, scheme: str
) -> None:
    rng, wrong = random.Random(7), list[str]()
    numbers = iter(range(60))
    limits = FetchSettings(allow_cidrs=(ip_network("127.0.0.0/8"),))
    trusting = ssl.create_default_context(cafile=radosgw.certificate)

    async def work(storage: S3Storage, fetcher: Fetcher) -> None:
        for number in numbers:
            key, data = f"videos/{number}", the_bytes(rng.choice(SIZES) + number)
            async with storage.open_sink(key, **ABOUT, size=len(data)) as sink:
                await sink.put_whole(BufferBody(memoryview(data)))
                await sink.commit([], size=len(data), crc32=0)
            async with storage.open_source(key, offset=number) as source:
                if await read_in_turns(source, rng) != data[number:]:
                    wrong.append(f"{key} from the store")
            link = await storage.presign(key, ttl=600, filename="x", media_type="video/mp4", inline=True)
            async with fetcher.open(link) as download:
                if await read_in_turns(download.sequential(), rng) != data:
                    wrong.append(f"{key} by its link")

    async with (
        s3_place(radosgw, bucket, endpoint_url=radosgw.endpoint if scheme == "http" else radosgw.tls_endpoint) as place,
        guarded_session(limits, tls=trusting) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(AT_ONCE):
            group.create_task(work(place.storage, Fetcher(session, limits)))

    assert wrong == []


async def test_behind_a_proxy_the_library_reads_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is reached by a proxy of the environment alone: the whole URL goes to the proxy."""
    data = the_bytes(300_000)
    async with RawStore(answer=lambda seen: (200, data)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        settings = S3Settings(
            bucket="films",
            endpoint_url="http://store.invalid",
            access_key_id="key",
            secret_access_key=SecretStr("secret"),
        )
        async with S3Storage(settings) as storage, storage.open_source("videos/1") as source:
            assert await read_in_turns(source, random.Random(1)) == data

        assert [seen.head.target for seen in proxy.seen] == ["http://store.invalid/films/videos/1"]


async def test_behind_a_proxy_the_library_sends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    data = the_bytes(3_000_000)
    async with RawStore() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        settings = S3Settings(
            bucket="films",
            endpoint_url="http://store.invalid",
            access_key_id="key",
            secret_access_key=SecretStr("secret"),
        )
        async with S3Storage(settings) as storage, storage.open_sink(KEY, **ABOUT, size=len(data)) as sink:
            await sink.put_whole(BufferBody(memoryview(data)))
            await sink.commit([], size=len(data), crc32=0)

        assert [(seen.head.target, bytes(seen.body)) for seen in proxy.seen] == [
            (f"http://store.invalid/films/{KEY}", data)
        ]


class Connections:
    """A store that remembers what came over each connection; it stops reading ``/cut`` in the middle."""

    def __init__(self, *, answers: bool) -> None:
        self.requests: list[list[str]] = []
        self.bodies: dict[str, bytes] = {}
        self.in_the_middle = asyncio.Event()
        self._answers = answers

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine: list[str] = []
        self.requests.append(mine)
        try:
            while (head := await read_head(reader)) is not None:
                mine.append(f"{head.method} {head.target}")
                if head.has_token("Expect", "100-continue"):
                    await send(writer, b"HTTP/1.1 100 Continue\r\n\r\n")
                length = int(head.get("Content-Length") or 0)
                if mine[-1].startswith("PUT") and mine[-1].endswith("/cut"):
                    await reader.readexactly(100_000)
                    self.in_the_middle.set()
                    if self._answers:
                        await send(writer, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                    await reader.readexactly(length - 100_000)  # and reads on, as a careful server does
                    continue
                self.bodies[mine[-1]] = await reader.readexactly(length)
                await send(writer, b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n')
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@pytest.mark.parametrize("how", ["answered early", "cancelled"])
async def test_a_connection_whose_body_was_cut_short_is_not_used_again(
    radosgw: RadosGW, tls: ssl.SSLContext | None, how: str
) -> None:
    store = Connections(answers=how == "answered early")
    large, small = the_bytes(8_000_000), the_bytes(50_000)
    server = await asyncio.start_server(store, "127.0.0.1", 0, ssl=tls)

    async def put(storage: S3Storage, key: str, data: bytes) -> None:
        async with storage.open_sink(key, **ABOUT, size=len(data)) as sink:
            await sink.put_whole(BufferBody(memoryview(data)))
            await sink.commit([], size=len(data), crc32=0)

    settings = S3Settings(
        bucket="films",
        endpoint_url=f"{'https' if tls else 'http'}://localhost:{server.sockets[0].getsockname()[1]}",
        access_key_id="key",
        secret_access_key=SecretStr("secret"),
        ca_file=str(radosgw.certificate),
        part_bytes=8 << 20,
        attempts=1,
    )
    async with server, S3Storage(settings) as storage:
        await put(storage, "videos/before", small)
        if how == "cancelled":
            async with asyncio.TaskGroup() as group:
                putting = group.create_task(put(storage, "videos/cut", large))
                await store.in_the_middle.wait()
                putting.cancel()
        else:
            with pytest.raises(StorageUnavailable):
                await put(storage, "videos/cut", large)
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(put(storage, f"videos/{number}", small))

    (cut,) = [requests for requests in store.requests if "PUT /films/videos/cut" in requests]
    assert cut[-1] == "PUT /films/videos/cut"
    assert [store.bodies[f"PUT /films/videos/{number}"] for number in range(8)] == [small] * 8
