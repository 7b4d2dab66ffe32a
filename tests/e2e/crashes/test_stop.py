"""SIGTERM in the middle of the work: an end in time, and nothing is lost."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import aiohttp
import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api, File, Refused, Task
from tests.e2e.traffic import COMPLETE, Traffic
from tests.e2e.waiting import becomes
from tests.infra.content import sha256_of
from tests.infra.resource import Break, Resource, busy
from tests.infra.s3 import Bucket
from tests.infra.servers.faults import StallAnswer
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20
SIZE = 96 * MIB


async def test_the_server_ends_in_time_and_the_next_start_goes_on(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic
) -> None:
    # a source that falls silent: nothing ends by itself
    url = source.add("/film", Resource(size=SIZE, breaks=[Break(after=5 * MIB, how="stall", skip=6)]))
    settings = configuration.s3(bucket, traffic.proxy.url, distant_parts_in_flight=4)
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        task = await api.ingest(url)
        await traffic.stores(3)

        watching, subscribed = asyncio.Event(), asyncio.Event()

        async def over_sse() -> Task:
            async for message in api.events(task["id"]):
                watching.set()
                last = message.task
            return last

        async def over_websocket() -> int | None:
            async with api.socket() as socket:
                await socket.subscribe("all")
                async for message in socket:
                    if message.type == "snapshot":
                        subscribed.set()
                return socket.close_code

        async with asyncio.TaskGroup() as group:
            events = group.create_task(over_sse())
            messages = group.create_task(over_websocket())
            await watching.wait()
            await subscribed.wait()
            started = time.monotonic()
            status = await server.stop()
            took = time.monotonic() - started
        assert messages.result() == 1001
        assert events.result()["status"] == "running"
        assert status == 0
        assert took < 15, "drain_seconds is 20"
        await traffic.settled()
        stored, mark = traffic.stored(), traffic.now
        assert len(await bucket.uploads()) == 1
        source.release("/film")

        await server.restart()
        file = await api.completed(task["id"])

        assert not stored & traffic.sent(mark), "what was stored has been sent again"
        assert (traffic.begun(), traffic.aborts()) == (1, [])
        assert (await api.task(task["id"]))["attempt"] == 1
        assert await bucket.sha256((await bucket.keys())[0]) == sha256_of(SIZE)
        await leavings.only(bucket, file)
        leavings.nothing_beside_the_database(server)


async def test_many_orderly_restarts_are_no_reason_to_give_up(tmp_path: Path, source: SourceServer) -> None:
    url = source.add("/film", Resource(size=SIZE, breaks=[Break(after=MIB, how="stall", skip=1)]))
    async with Server(tmp_path) as server, Api(server.url) as api:
        task = await api.ingest(url)
        for start in range(5):
            await api.until(task["id"], "running")
            await source.log.reaches(lambda log, seen=start: len(log) > 2 * seen)  # type: ignore[misc]
            assert await server.stop() == 0
            await server.restart()
        source.release("/film")

        file = await api.completed(task["id"])

        assert (await api.content(file)).sha256 == sha256_of(SIZE)
        leavings.only_here(server, file)


async def test_of_content_that_is_still_coming_nothing_stays(tmp_path: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"data": "' + base64.b64encode(bytes(3 * MIB))
        await asyncio.Event().wait()

    async def post(api: Api) -> None:
        headers = {"Content-Type": "application/json"}
        try:
            answer = await api.call("POST", "/v1/ingest", data=body(), headers=headers)
        except (aiohttp.ClientError, Refused):
            return
        raise AssertionError(f"answered: {answer}")

    async with Server(tmp_path, {"server": {"drain_seconds": 4}}) as server, Api(server.url) as api:
        async with asyncio.TaskGroup() as group:
            group.create_task(post(api))
            await becomes(lambda: bool(leavings.media(server)))
            assert await server.stop(6) == 0
        leavings.only_here(server)

        await server.restart()

        assert (await api.tasks(), await api.files()) == ([], [])
        leavings.only_here(server)


PHASES = ["queued", "downloading", "uploading", "committing", "between attempts", "being read"]


@pytest.mark.parametrize("backend", ["local", "s3"])
@pytest.mark.parametrize("phase", PHASES)
async def test_stopped_in_each_phase(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic, phase: str, backend: str
) -> None:
    """Status 0 in time; nothing is left behind; the next start ends what was accepted."""
    stop_in = {"server": {"drain_seconds": 4}, "tasks": {"lanes": {"ingest": 1}}}
    settings = {**(configuration.s3(bucket, traffic.proxy.url) if backend == "s3" else {}), **stop_in}
    slow = source.add("/slow", Resource(size=8 * MIB, ranges="no", breaks=[Break(after=3 * MIB, how="stall")]))
    quick = source.add("/quick", Resource(size=8 * MIB, seed=2))
    again = source.add("/again", Resource(size=MIB, seed=3, script=[busy(503, retry_after=3)]))
    silence = StallAnswer()
    accepted: list[str] = []

    async with (
        Server(tmp_path, settings) as server,
        Api(server.url) as api,
        asyncio.TaskGroup() as group,
        AsyncExitStack() as stack,
    ):

        async def accept(url: str, path: str, sent: int) -> None:
            accepted.append((await api.ingest(url))["id"])
            await source.log.reaches(lambda log: len(log) > 0 and source.sent(path) >= sent)

        if phase in {"queued", "downloading"}:
            await accept(slow, "/slow", 3 * MIB)
        if phase == "queued":
            await accept(quick, "/slow", 3 * MIB)
        if phase == "uploading":
            group.create_task(_cut_off(api))
            await becomes(lambda: bool(_owed(server)))
        if phase == "committing":
            traffic.proxy.add(silence, "POST", COMPLETE)
            await accept(quick, "/quick", 8 * MIB)
        if phase == "between attempts":
            await accept(again, "/again", 0)
        if phase == "being read":
            await accept(quick, "/quick", 8 * MIB)
            await stack.enter_async_context(_slowly_read(server, await api.completed(accepted[0])))

        began = time.monotonic()
        status = await server.stop(10)
        took = time.monotonic() - began
        assert (status, took < 6) == (0, True), took

        source.release("/slow")
        traffic.proxy.call(silence.release.set)
        await server.restart()
        files = [await api.completed(task_id) for task_id in accepted]
        assert {task["id"] for task in await api.tasks()} == set(accepted)
        assert {file["id"] for file in await api.files()} == {file["id"] for file in files}
        await becomes(lambda: not _owed(server))
        if backend == "s3":
            await leavings.only(bucket, *files)
            leavings.nothing_beside_the_database(server)
        else:
            leavings.only_here(server, *files)


async def _cut_off(api: Api) -> None:
    """An upload that never ends by itself."""

    async def body() -> AsyncIterator[bytes]:
        yield bytes(3 * MIB)
        await asyncio.Event().wait()

    try:
        await api.call("POST", "/v1/files", data=body())
    except (aiohttp.ClientError, Refused):
        return
    raise AssertionError("answered")


@asynccontextmanager
async def _slowly_read(server: Server, file: File) -> AsyncIterator[None]:
    """Meanwhile somebody has asked for a file and takes no more than its beginning."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(f"GET /v1/files/{file['id']}/content HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert await reader.readline()
    try:
        yield
    finally:
        writer.transport.abort()


def _owed(server: Server) -> int:
    """How many things the database says are still to be removed from the store, beside those it looks for again."""
    with closing(sqlite3.connect(f"file:{server.data_dir}/mediagen.db?mode=ro", uri=True)) as database:
        (count,) = database.execute("SELECT count(*) FROM owed_aborts WHERE state ->> 'look' IS NULL").fetchone()
        return int(count)
