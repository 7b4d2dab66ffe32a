"""Many transfers at once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api
from tests.infra.content import crc32_of, sha256_of
from tests.infra.resource import Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20
COUNT = 32


@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_all_of_them_are_whole(tmp_path: Path, source: SourceServer, bucket: Bucket, backend: str) -> None:
    # large ones in ranges, others without, of unknown length, small, empty
    sizes = [0, 1, 100_000, 3 * MIB + 17, 9 * MIB, 12 * MIB + 5, 17 * MIB + 3, 20 * MIB]
    settings = {"tasks": {"lanes": {"ingest": COUNT}}, **(configuration.s3(bucket) if backend == "s3" else {})}
    urls = [
        source.add(
            f"/{number}",
            Resource(
                size=sizes[number % len(sizes)],
                seed=number,
                ranges="no" if number % 3 == 1 else "yes",
                framing="chunked" if number % 3 == 1 else "length",
            ),
        )
        for number in range(COUNT)
    ]
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        idle = server.descriptors
        tasks = [await api.ingest(url) for url in urls]
        files = [await api.completed(task["id"], seconds=100) for task in tasks]

        for number, file in enumerate(files):
            size = sizes[number % len(sizes)]
            assert file["bytes"] == size
            assert file["checksum"]["value"] == f"{crc32_of(size, number):08x}"
            if backend == "s3":
                (key,) = [key for key in await bucket.keys() if file["id"] in key]
                assert await bucket.sha256(key) == sha256_of(size, number)
            else:
                assert (await api.content(file)).sha256 == sha256_of(size, number)
        if backend == "s3":
            await leavings.only(bucket, *files)
            leavings.nothing_beside_the_database(server)
        else:
            leavings.only_here(server, *files)
            assert server.descriptors <= idle + 4
        leavings.no_child(server)


async def _fetched(source: SourceServer, more: int) -> None:
    goal = more + sum(request.sent for request in source.log)
    await source.log.reaches(lambda log: sum(request.sent for request in log) >= goal)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_all_of_them_survive_a_kill(
    tmp_path: Path, source: SourceServer, bucket: Bucket, chance: random.Random, backend: str
) -> None:
    sizes = [0, 100_000, 9 * MIB, 24 * MIB]
    urls = [
        source.add(
            f"/{number}",
            Resource(size=sizes[number % 4], seed=number, ranges="no" if number % 3 == 0 else "yes", rate=12 * MIB),
        )
        for number in range(16)
    ]
    settings = {"tasks": {"lanes": {"ingest": 6}}, **(configuration.s3(bucket) if backend == "s3" else {})}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        tasks = [await api.ingest(url, priority=chance.randrange(101)) for url in urls]
        for _ in range(2):
            await _fetched(source, chance.randrange(40 * MIB))
            await server.kill9()
            await server.restart()

        files = [await api.completed(task["id"], seconds=100) for task in tasks]

        for number, file in enumerate(files):
            assert file["bytes"] == sizes[number % 4]
            assert file["checksum"]["value"] == f"{crc32_of(sizes[number % 4], number):08x}"
        again = {task["id"]: task["priority"] for task in await api.tasks()}
        assert again == {task["id"]: task["priority"] for task in tasks}
        if backend == "s3":
            await leavings.only(bucket, *files)
        else:
            leavings.only_here(server, *files)
