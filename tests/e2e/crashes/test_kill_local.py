"""A large file on its way to the local disk, and the server killed again and again: it goes on where it was."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.e2e import leavings
from tests.e2e.api import Api
from tests.e2e.waiting import becomes, logged
from tests.infra.content import crc32_of, sha256_of
from tests.infra.resource import Break, Resource
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20
SIZE = 192 * MIB
RATE = 24 * MIB
"""Bytes a second of each connection: slow enough to be killed at any moment."""
IN_FLIGHT = 32 * MIB
"""More than connections hold that are opened to look and then closed."""


@pytest.mark.timeout(120)
async def test_a_file_survives_kills_and_is_not_fetched_again(
    tmp_path: Path, source: SourceServer, chance: random.Random
) -> None:
    url = source.add("/film", Resource(size=SIZE, seed=1, rate=RATE))
    moments = sorted(chance.uniform(0.1, 0.8) for _ in range(3))
    async with Server(tmp_path) as server, Api(server.url) as api:
        task = await api.ingest(url)
        stored = []
        for count, moment in enumerate(moments, start=1):
            await becomes(partial(_has, server, int(SIZE * moment)))
            await server.kill9()
            assert len(leavings.media(server)) == 1, "one file, finished or not"
            stored.append(_recorded(server))
            fetched = source.sent("/film")

            await server.restart()
            await _resumed(server, count)

        file = await api.completed(task["id"])
        content = await api.content(file)
        ended = await api.task(task["id"])
        leavings.only_here(server, file)
        leavings.no_child(server)

        assert _resumptions(server) == stored, "what was recorded before a kill is found after it"

    assert source.sent("/film") - fetched <= SIZE - stored[-1] + IN_FLIGHT
    assert (content.size, content.sha256) == (file["bytes"], sha256_of(SIZE, 1))
    assert file["checksum"] == {"algorithm": "crc32", "value": f"{crc32_of(SIZE, 1):08x}"}
    assert (ended["attempt"], ended["progress"]) == (1, 100)


def _has(server: Server, goal: int) -> bool:
    return _recorded(server) >= goal


def _recorded(server: Server) -> int:
    """Bytes of the parts that the database knows of."""
    with closing(sqlite3.connect(f"file:{server.data_dir}/mediagen.db?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT coalesce(sum(size), 0) FROM upload_parts").fetchone()[0])


async def _resumed(server: Server, count: int) -> None:
    await becomes(lambda: len(_resumptions(server)) == count)


def _resumptions(server: Server) -> list[int]:
    """Bytes that each restart found."""
    return [record["bytes"] for record in logged(server, "transfer_resumed")]


@pytest.mark.parametrize("size", [3 * MIB, 40 * MIB])
async def test_without_ranges_it_starts_again(tmp_path: Path, source: SourceServer, size: int) -> None:
    url = source.add(
        "/film", Resource(size=size, seed=2, ranges="no", breaks=[Break(after=size - 1000, how="stall", times=1)])
    )
    async with Server(tmp_path) as server, Api(server.url) as api:
        task = await api.ingest(url)
        await source.log.reaches(lambda _: source.sent("/film") == size - 1000)
        await becomes(lambda: bool(leavings.media(server)))
        (partial,) = leavings.media(server)
        await server.kill9()

        await server.restart()
        file = await api.completed(task["id"])

        assert not partial.exists()
        leavings.only_here(server, file)
        assert (await api.content(file)).sha256 == sha256_of(size, 2)
        assert file["sha256"] in (None, sha256_of(size, 2))
    assert len(source.requests("/film")) == 2


async def test_killed_the_moment_that_the_file_is_in_its_place(tmp_path: Path, source: SourceServer) -> None:
    url = source.add("/film", Resource(size=24 * MIB))

    def kill_when_visible(folder: Path, pid: int) -> None:
        """Between the link and the row are a sync of the folder and one of the database."""
        end = time.monotonic() + 30
        while not any(path.is_file() for path in folder.glob("assets/files/*")):
            if time.monotonic() > end:
                raise TimeoutError("no file came")
        os.kill(pid, signal.SIGKILL)

    async with Server(tmp_path) as server, Api(server.url) as api:
        task = await api.ingest(url)
        await asyncio.to_thread(kill_when_visible, server.data_dir / "media", server.pid)
        await server.kill9()
        fetched = source.sent("/film")

        await server.restart()
        file = await api.completed(task["id"])

        assert source.sent("/film") - fetched < 24 * MIB, "what was there has been fetched again"
        assert (await api.content(file)).sha256 == sha256_of(24 * MIB)
        leavings.only_here(server, file)
