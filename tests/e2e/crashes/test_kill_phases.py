"""kill -9 in every phase of a task, and what one restart must make of it."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api, Refused
from tests.e2e.traffic import COMPLETE, Traffic
from tests.e2e.waiting import becomes
from tests.infra.content import content_bytes, sha256_of
from tests.infra.resource import Break, Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.faults import BlackHole, StallAnswer
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20
SIZE = 24 * MIB
"""Three parts; large enough for ranges."""


@contextmanager
def rows_withheld(server: Server) -> Iterator[None]:
    """Meanwhile the server cannot write to its database; a killed one leaves it as it was."""
    connection = sqlite3.connect(server.data_dir / "mediagen.db", isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


class Upload:
    """The body of a POST that sends a first half, waits to be told, and sends the rest."""

    def __init__(self, content: bytes) -> None:
        text = base64.b64encode(content)
        middle = len(text) * 2 // 3
        self.first, self.rest = b'{"filename": "a.bin", "data": "' + text[:middle], text[middle:] + b'"}'
        self.go_on = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.first
        await self.go_on.wait()
        yield self.rest

    async def post(self, api: Api) -> None:
        """Send it; the server dies before it answers."""
        headers = {"Content-Type": "application/json"}
        try:
            answer = await api.call("POST", "/v1/ingest", data=self.chunks(), headers=headers)
        except aiohttp.ClientError:
            return
        raise AssertionError(f"answered: {answer}")


async def test_body_of_a_request_on_its_way_into_a_bucket(tmp_path: Path, bucket: Bucket, traffic: Traffic) -> None:
    upload = Upload(content_bytes(20 * MIB))
    async with Server(tmp_path, configuration.s3(bucket, traffic.proxy.url)) as server, Api(server.url) as api:
        async with asyncio.TaskGroup() as group:
            group.create_task(upload.post(api))
            await traffic.stores(1)
            await server.kill9()
        await traffic.settled()
        assert len(await bucket.uploads()) == 1
        mark = traffic.now

        await server.restart()
        await traffic.reaches(lambda _: any(one.status == 204 for one in traffic.aborts(mark)))

        assert (await api.tasks(), await api.files()) == ([], [])
        await leavings.only(bucket)


async def test_body_of_a_request_on_its_way_to_the_disk(tmp_path: Path) -> None:
    upload = Upload(content_bytes(6 * MIB))
    async with Server(tmp_path) as server, Api(server.url) as api:
        async with asyncio.TaskGroup() as group:
            group.create_task(upload.post(api))
            await becomes(lambda: any(path.stat().st_size for path in leavings.media(server)))
            await server.kill9()

        await server.restart()

        leavings.only_here(server)
        assert (await api.tasks(), await api.files()) == ([], [])


@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_body_of_a_request_stored_but_not_its_row(
    tmp_path: Path, bucket: Bucket, traffic: Traffic, backend: str
) -> None:
    upload = Upload(content_bytes(3 * MIB))
    settings = configuration.s3(bucket, traffic.proxy.url) if backend == "s3" else {}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:

        async def visible() -> int:
            found = [path for path in leavings.media(server) if path.suffix != ".part"]
            return len(found) if backend == "local" else len(await bucket.keys())

        async with asyncio.TaskGroup() as group:
            group.create_task(upload.post(api))
            await becomes(lambda: _owes(server))
            with rows_withheld(server):
                upload.go_on.set()
                while not await visible():
                    await asyncio.sleep(0.01)
                await server.kill9()

        await server.restart()
        await becomes(lambda: not _owes(server))

        assert await visible() == 0
        assert (await api.tasks(), await api.files()) == ([], [])
        leavings.only_here(server)


def _owes(server: Server) -> bool:
    """Whether the server has written down something that it may have to remove."""
    with sqlite3.connect(f"file:{server.data_dir / 'mediagen.db'}?mode=ro", uri=True) as connection:
        (count,) = connection.execute("SELECT count(*) FROM owed_aborts WHERE state ->> 'look' IS NULL").fetchone()
    connection.close()
    return bool(count)


async def test_accepted_and_queued(tmp_path: Path, source: SourceServer) -> None:
    first = source.add("/first", Resource(size=MIB, breaks=[Break(after=1000, how="stall")]))
    async with Server(tmp_path, {"tasks": {"lanes": {"ingest": 1}}}) as server, Api(server.url) as api:
        running = await api.ingest(first, priority=100)
        await source.log.reaches(lambda _: source.sent("/first") == 1000)
        waiting = [
            await api.ingest(source.add(f"/{priority}", Resource(size=2000, seed=priority)), priority=priority)
            for priority in (10, 90, 50)
        ]
        await server.kill9()

        await server.restart()

        await source.log.reaches(lambda _: len(source.requests("/first")) == 2)
        again = {task["id"]: task for task in await api.tasks()}
        assert again.keys() == {running["id"], *(task["id"] for task in waiting)}
        assert [again[task["id"]]["status"] for task in waiting] == ["queued"] * 3
        assert [again[task["id"]]["priority"] for task in waiting] == [10, 90, 50]
        assert [again[task["id"]]["queue_position"] for task in waiting] == [2, 0, 1]
        source.release("/first")
        files = [await api.completed(task["id"]) for task in (running, *waiting)]
        assert [file["sha256"] for file in files[1:]] == [sha256_of(2000, seed) for seed in (10, 90, 50)]
        started = [(await api.task(task["id"]))["started_at"] or "" for task in waiting]
        assert started[1] < started[2] < started[0]
        leavings.only_here(server, *files)


async def test_download_without_ranges_begins_anew_elsewhere(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic
) -> None:
    trouble = Break(after=20 * MIB, how="stall", times=1)
    url = source.add("/film", Resource(size=SIZE, ranges="no", breaks=[trouble]))
    async with Server(tmp_path, configuration.s3(bucket, traffic.proxy.url)) as server, Api(server.url) as api:
        task = await api.ingest(url)
        await traffic.stores(2)
        await server.kill9()
        await traffic.settled()
        (old,) = await bucket.uploads()

        await server.restart()
        file = await api.completed(task["id"])

        await leavings.only(bucket, file)
        (key,) = await bucket.keys()
        assert key != old.key
        assert await bucket.sha256(key) == sha256_of(SIZE)
        assert (traffic.begun(), len(traffic.completions())) == (2, 1)


async def test_upload_announced_but_not_written_down(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic
) -> None:
    url = source.add("/film", Resource(size=SIZE))
    silence = StallAnswer()
    rule = traffic.proxy.add(silence, "POST", r"\?uploads$")
    async with Server(tmp_path, configuration.s3(bucket, traffic.proxy.url)) as server, Api(server.url) as api:
        task = await api.ingest(url)
        await traffic.reaches(lambda log: any(one.status == 200 for one in log if one.target.endswith("?uploads")))
        await server.kill9()
        traffic.proxy.call(silence.release.set)
        await traffic.settled()
        assert len(await bucket.uploads()) == 1
        traffic.proxy.proxy.rules.remove(rule)

        await server.restart()
        file = await api.completed(task["id"])

        await leavings.only(bucket, file)
        assert await bucket.sha256((await bucket.keys())[0]) == sha256_of(SIZE)


async def test_completed_in_the_store_and_the_answer_lost(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic
) -> None:
    url = source.add("/film", Resource(size=SIZE))
    silence = StallAnswer()
    traffic.proxy.add(silence, "POST", COMPLETE, times=1)
    async with Server(tmp_path, configuration.s3(bucket, traffic.proxy.url)) as server, Api(server.url) as api:
        task = await api.ingest(url)
        await traffic.reaches(lambda _: any(one.status == 200 for one in traffic.completions()))
        await server.kill9()
        traffic.proxy.call(silence.release.set)
        await traffic.settled()
        (key,), mark = await bucket.keys(), traffic.now

        await server.restart()
        file = await api.completed(task["id"])

        await leavings.only(bucket, file)
        assert await bucket.keys() == [key]
        assert await bucket.sha256(key) == sha256_of(SIZE)
        assert (traffic.begun(mark), traffic.sent(mark), traffic.completions(mark)) == (0, set(), [])


async def test_asked_to_complete_but_the_store_never_heard(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic
) -> None:
    url = source.add("/film", Resource(size=SIZE))
    traffic.proxy.add(BlackHole(), "POST", COMPLETE, times=1)
    async with Server(tmp_path, configuration.s3(bucket, traffic.proxy.url)) as server, Api(server.url) as api:
        task = await api.ingest(url)
        await traffic.reaches(lambda _: bool(traffic.completions()))
        await server.kill9()
        await traffic.settled()
        mark = traffic.now

        await server.restart()
        file = await api.completed(task["id"])

        await leavings.only(bucket, file)
        assert await bucket.sha256((await bucket.keys())[0]) == sha256_of(SIZE)
        assert (traffic.begun(mark), traffic.sent(mark), len(traffic.completions(mark))) == (0, set(), 1)


async def test_object_visible_but_not_its_row(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic
) -> None:
    url = source.add("/film", Resource(size=SIZE))
    silence = StallAnswer()
    traffic.proxy.add(silence, "POST", COMPLETE, times=1)
    async with Server(tmp_path, configuration.s3(bucket, traffic.proxy.url)) as server, Api(server.url) as api:
        task = await api.ingest(url)
        await traffic.reaches(lambda _: any(one.status == 200 for one in traffic.completions()))
        with rows_withheld(server):
            traffic.proxy.call(silence.release.set)
            await traffic.reaches(lambda _: all(one.ended for one in traffic.completions()))
            await server.kill9()
        (key,), mark = await bucket.keys(), traffic.now

        await server.restart()
        file = await api.completed(task["id"])

        assert await bucket.keys() == [key]
        await leavings.only(bucket, file)
        assert (traffic.begun(mark), traffic.sent(mark), traffic.completions(mark)) == (0, set(), [])


@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_object_without_ranges_visible_but_not_its_row(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic, backend: str
) -> None:
    size = 12 * MIB
    trouble = Break(after=size - 1000, how="stall", times=1)
    url = source.add("/film", Resource(size=size, ranges="no", breaks=[trouble]))
    settings = configuration.s3(bucket, traffic.proxy.url) if backend == "s3" else {}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:

        async def keys() -> list[str]:
            if backend == "s3":
                return await bucket.keys()
            return [path.name for path in leavings.media(server) if path.suffix != ".part"]

        task = await api.ingest(url)
        await source.log.reaches(lambda _: source.sent("/film") == size - 1000)
        if backend == "s3":
            await traffic.stores(1)
        else:
            await becomes(lambda: bool(leavings.media(server)))
        with rows_withheld(server):
            source.release("/film")
            while not await keys():
                await asyncio.sleep(0.01)
            await server.kill9()
        (old,) = await keys()

        await server.restart()
        file = await api.completed(task["id"])

        assert await keys() != [old]
        if backend == "s3":
            await leavings.only(bucket, file)
        else:
            leavings.only_here(server, file)
        assert (await api.content(file)).sha256 == sha256_of(size)


@pytest.mark.parametrize("ranges", ["yes", "no"])
async def test_cancel_requested(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic, ranges: str
) -> None:
    # one part gets stored: of ranges the first three answers pass, without them the only one stalls in the second part
    trouble = Break(after=5 * MIB, how="stall", skip=3) if ranges == "yes" else Break(after=9 * MIB, how="stall")
    url = source.add("/film", Resource(size=SIZE, ranges="yes" if ranges == "yes" else "no", breaks=[trouble]))
    traffic.proxy.add(BlackHole(), "DELETE", COMPLETE)
    async with Server(tmp_path, configuration.s3(bucket, traffic.proxy.url)) as server, Api(server.url) as api:
        task = await api.ingest(url)
        await traffic.stores(1)

        async def cancel() -> None:
            try:
                await api.cancel(task["id"])
            except aiohttp.ClientError:
                return

        async with asyncio.TaskGroup() as group:
            group.create_task(cancel())
            await traffic.reaches(lambda _: bool(traffic.aborts()))
            await server.kill9()
        traffic.proxy.proxy.rules.clear()
        await traffic.settled()
        mark = traffic.now

        await server.restart()
        assert (await api.ended(task["id"]))["status"] == "cancelled"
        await traffic.reaches(lambda _: any(one.status == 204 for one in traffic.aborts(mark)))

        source.release("/film")
        await server.restart()
        assert (await api.task(task["id"]))["status"] == "cancelled"
        with pytest.raises(Refused) as refused:
            await api.call("DELETE", f"/v1/tasks/{'task_' + '0' * 32}")
        assert refused.value.status == 404
        assert await api.files() == []
        assert traffic.sent(mark) == set()
        await leavings.only(bucket)
