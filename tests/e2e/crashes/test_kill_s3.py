"""A large file on its way into a bucket, and the server killed again and again: it goes on where it was."""

from __future__ import annotations

import asyncio
import random
import ssl
from datetime import datetime
from pathlib import Path

import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api, File
from tests.e2e.traffic import Traffic
from tests.e2e.waiting import becomes
from tests.infra.content import crc32_of, sha256_of
from tests.infra.resource import Break, Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.mediagen import Server
from tests.infra.servers.radosgw import RadosGW
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20


async def survives(
    server: Server, source: SourceServer, traffic: Traffic, chance: random.Random, *, size: int, kills: int
) -> File:
    """Bring in ``size`` bytes while the server is killed ``kills`` times; the file in the end."""
    url = source.add("/film", Resource(size=size, seed=size))
    async with Api(server.url) as api:
        task = await api.ingest(url)
        for _ in range(kills):
            mark = traffic.now
            await traffic.stores(chance.randint(1, 3), mark, or_completes=True)
            goal = source.sent("/film") + chance.randrange(size // 8)
            await _fetched(source, traffic, goal)
            await server.kill9()
            await traffic.settled()
            stored, mark = traffic.stored(), traffic.now

            await server.restart()

            await traffic.stores(1, mark, or_completes=True)
            assert stored, "nothing was stored before the kill"
            assert not stored & traffic.sent(mark), "what was stored has been sent again"
        file = await api.completed(task["id"], seconds=120)
        assert not stored & traffic.sent(mark), "what was stored has been sent again"
        ended = await api.task(task["id"])
    assert (ended["attempt"], ended["status"], ended["progress"]) == (1, "completed", 100)
    assert traffic.begun() == 1
    return file


async def _fetched(source: SourceServer, traffic: Traffic, goal: int) -> None:
    await becomes(lambda: source.sent("/film") >= goal or bool(traffic.completions()))


async def is_whole(bucket: Bucket, file: File, size: int) -> None:
    """What is stored is what the source has, and the file says so."""
    (key,) = await bucket.keys()
    assert (await bucket.head(key))["ContentLength"] == size == file["bytes"]
    assert await bucket.sha256(key) == sha256_of(size, size)
    assert file["checksum"] == {"algorithm": "crc32", "value": f"{crc32_of(size, size):08x}"}


@pytest.mark.timeout(180)
async def test_a_gibibyte_survives_kills(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic, chance: random.Random
) -> None:
    size = 1 << 30
    async with Server(tmp_path, configuration.s3(bucket, traffic.proxy.url)) as server:
        file = await survives(server, source, traffic, chance, size=size, kills=2)

        await is_whole(bucket, file, size)
        await leavings.only(bucket, file)
        leavings.nothing_beside_the_database(server)
        leavings.no_child(server)


@pytest.mark.timeout(120)
async def test_several_kills_in_a_row_over_tls(
    tmp_path: Path, source: SourceServer, bucket: Bucket, radosgw: RadosGW, chance: random.Random
) -> None:
    size = 160 * MIB
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(radosgw.certificate, radosgw.private_key)
    with FaultProxyThread("127.0.0.1", radosgw.port, tls=context) as proxy:
        async with Server(tmp_path, configuration.s3(bucket, proxy.url)) as server:
            file = await survives(
                server, source, Traffic(proxy), chance, size=size, kills=4
            )  # a fifth without a new part would end it

            await is_whole(bucket, file, size)
            await leavings.only(bucket, file)
            leavings.nothing_beside_the_database(server)
            leavings.no_child(server)


async def test_over_the_tls_of_the_store_itself(
    tmp_path: Path, source: SourceServer, bucket: Bucket, radosgw: RadosGW
) -> None:
    """Without a proxy between: the store's own clock tells that no part came twice."""
    size = 96 * MIB
    url = source.add("/film", Resource(size=size, breaks=[Break(after=6 * MIB, how="stall", skip=6)]))
    settings = configuration.s3(bucket, radosgw.tls_endpoint, distant_parts_in_flight=4)

    async def stored() -> dict[int, datetime]:
        """When each part of the one upload was stored."""
        uploads = await bucket.uploads()
        if not uploads:
            return {}
        place = {"Bucket": bucket.name, "Key": uploads[0].key, "UploadId": uploads[0].upload_id}
        parts = (await bucket.client.list_parts(**place)).get("Parts", [])
        return {part["PartNumber"]: part["LastModified"] for part in parts}

    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        task = await api.ingest(url)
        while len(before := await stored()) < 3:
            await asyncio.sleep(0.05)
        await server.kill9()

        await server.restart()
        await source.log.reaches(lambda log: sum(not request.ended for request in log) == 4)
        after = await stored()
        source.release("/film")
        file = await api.completed(task["id"])

        assert {number: after[number] for number in before} == before
        (key,) = await bucket.keys()
        assert await bucket.sha256(key) == sha256_of(size)
        await leavings.only(bucket, file)
