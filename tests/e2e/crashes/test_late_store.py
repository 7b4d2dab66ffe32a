"""A store that carries out a request after its client has gone: nothing of it stays, whatever ended the client."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api, Refused
from tests.e2e.traffic import COMPLETE, Traffic
from tests.e2e.waiting import becomes
from tests.infra.content import content_bytes
from tests.infra.resource import Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.faults import Late
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e
AT_ONCE: Final = {"tasks": {"lanes": {"ingest": 8}}}

MIB = 1 << 20
CREATING: Final = {
    # pattern of the request that is late, size of what is brought in, whether its source has ranges
    "whole": ("PUT", r"/file_[^?]*$", 1000, "no"),
    "create": ("POST", r"\?uploads$", 12 * MIB, "no"),
    "create, for ranges": ("POST", r"\?uploads$", 20 * MIB, "yes"),
    "part": ("PUT", r"partNumber=1\b", 12 * MIB, "no"),
    "complete": ("POST", COMPLETE, 12 * MIB, "no"),
}
"""Every request by which the store comes to have something."""


def _debts(server: Server) -> list[str]:
    """What the server's database says is owed."""
    with closing(sqlite3.connect(f"file:{server.data_dir}/mediagen.db?mode=ro", uri=True)) as database:
        return [row[0] for row in database.execute("SELECT state FROM owed_aborts")]


async def _looked(traffic: Traffic, mark: int, keys: set[str]) -> None:
    """Wait until the server has looked for an object under each key, and found none to remove."""
    await traffic.reaches(
        lambda _: keys <= {one.target for one in traffic.since(mark) if one.method in {"HEAD", "DELETE"} and one.ended}
    )


async def _is_only(bucket: Bucket, ids: set[str]) -> None:
    """Wait until there are the objects of these files, no other one, and no unfinished upload."""
    end = time.monotonic() + 25
    while True:
        keys, uploads = await bucket.keys(), await bucket.uploads()
        if {key.rpartition("/")[2].partition(".")[0] for key in keys} == ids and not uploads:
            return
        assert time.monotonic() < end, (ids, keys, uploads)
        await asyncio.sleep(0.1)


class Held:
    """Tasks of which each has one request at the store, taken and not carried out yet."""

    def __init__(self, api: Api, source: SourceServer, traffic: Traffic) -> None:
        self.api, self.source, self.traffic = api, source, traffic
        self.late = Late()
        self.tasks: list[str] = []

    async def begin(self, **fields: Any) -> None:
        for number, (method, target, size, ranges) in enumerate(CREATING.values()):
            self.traffic.proxy.add(self.late, method, target, times=1)
            resource = Resource(size=size, seed=number, ranges="yes" if ranges == "yes" else "no")
            task = await self.api.ingest(self.source.add(f"/{number}", resource), **fields)
            self.tasks.append(task["id"])
            await becomes(lambda: len(self.late.held) == len(self.tasks))

    @property
    def keys(self) -> set[str]:
        return {target.partition("?")[0] for target in self.late.held}

    async def carried_out(self, bucket: Bucket) -> None:
        """The store does what it was asked long ago, and that is a lot."""
        self.traffic.proxy.call(self.late.release.set)
        await becomes(lambda: len(self.late.done) == len(self.late.held))
        assert self.late.done.count(200) >= 3, "an object and two uploads appear"


@pytest.mark.parametrize("how", ["timed out", "cancelled, then killed"])
async def test_a_request_that_outlives_its_task(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic, how: str
) -> None:
    async with (
        Server(tmp_path, {**configuration.s3(bucket, traffic.proxy.url), **AT_ONCE}) as server,
        Api(server.url) as api,
    ):
        held = Held(api, source, traffic)
        await held.begin(**({"timeout_seconds": 4} if how == "timed out" else {}))
        mark = traffic.now
        for task_id in held.tasks:
            began = time.monotonic()
            if how == "timed out":
                assert (await api.ended(task_id))["status"] == "timed_out"
            else:
                assert (await api.cancel(task_id))["status"] == "cancelled"
                assert time.monotonic() - began < 2
        await _looked(traffic, mark, held.keys)
        if "killed" in how:
            await server.kill9()
            mark = traffic.now
            await server.restart()
            await _looked(traffic, mark, held.keys)

        await held.carried_out(bucket)

        await _is_only(bucket, set())
        assert len(_debts(server)) == len(CREATING), "it goes on looking"


async def test_a_request_that_outlives_its_server(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic
) -> None:
    async with (
        Server(tmp_path, {**configuration.s3(bucket, traffic.proxy.url), **AT_ONCE}) as server,
        Api(server.url) as api,
    ):
        held = Held(api, source, traffic)
        await held.begin()
        async with asyncio.TaskGroup() as group:
            traffic.proxy.add(held.late, "PUT", r"/file_[^?]*$", times=1)
            group.create_task(_unanswered(api, content_bytes(5000)))
            await becomes(lambda: len(held.late.held) == len(CREATING) + 1)
            await server.kill9()
        await server.restart()
        files = [await api.completed(task_id) for task_id in held.tasks]
        await becomes(lambda: not any("boot" in debt for debt in _debts(server)))

        await held.carried_out(bucket)

        await _is_only(bucket, {file["id"] for file in files})
        for file, (_, _, size, _) in zip(files, CREATING.values(), strict=True):
            assert (await api.content(file)).size == size


async def _unanswered(api: Api, data: bytes) -> None:
    try:
        answer = await api.call("POST", "/v1/files", data=data)
    except (aiohttp.ClientError, Refused):
        return
    raise AssertionError(f"answered: {answer}")


async def test_requests_that_were_given_up_and_repeated(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic
) -> None:
    """The store was too slow, the second try was quick, and the file was deleted when the first came through."""
    late = Late()
    for method, target, *_ in CREATING.values():
        traffic.proxy.add(late, method, target, times=1)
    settings = configuration.s3(bucket, traffic.proxy.url, answer_seconds=1, minimum_bytes_per_second=1 << 30)
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        small = await api.completed((await api.ingest(source.add("/small", Resource(size=1000))))["id"])
        large = await api.completed(
            (await api.ingest(source.add("/large", Resource(size=12 * MIB, ranges="no"))))["id"]
        )
        assert len(late.held) == len(CREATING)
        await leavings.only(bucket, small, large)
        async with api.session.delete(f"/v1/files/{small['id']}") as answer:
            assert answer.status < 300
        await becomes(lambda: len(_debts(server)) == 2)

        traffic.proxy.call(late.release.set)
        await becomes(lambda: len(late.done) == len(CREATING))
        assert late.done.count(200) >= 3, "the deleted object and two uploads appear"

        await _is_only(bucket, {large["id"]})


@pytest.mark.parametrize("request_", ["list of uploads", "delete"])
async def test_late_answers_to_clean_ups(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic, request_: str
) -> None:
    """The task ends in time, and what the store was slow to remove goes later."""
    method, target = {
        "list of uploads": ("GET", r"\?.*uploads"),
        "delete": ("DELETE", r"/file_[^?]*$"),
    }[request_]
    creating = CREATING["create" if request_ == "list of uploads" else "whole"]
    made, late = Late(), Late()
    async with Server(tmp_path, configuration.s3(bucket, traffic.proxy.url)) as server, Api(server.url) as api:
        traffic.proxy.add(made, creating[0], creating[1], times=1)
        task = await api.ingest(source.add("/film", Resource(size=creating[2], ranges="no")))
        await becomes(lambda: len(made.held) == 1)
        traffic.proxy.add(late, method, target, times=2)

        began = time.monotonic()
        assert (await api.cancel(task["id"]))["status"] == "cancelled"
        assert time.monotonic() - began < 2
        traffic.proxy.call(made.release.set)
        await becomes(lambda: made.done == [200] and len(late.held) >= 1)
        traffic.proxy.call(late.release.set)

        await _is_only(bucket, set())


async def test_stopped_in_time_while_the_store_is_silent(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic
) -> None:
    """Every request on its way, an upload among them, and a clean-up that has just begun: all is written down."""
    settings = {**configuration.s3(bucket, traffic.proxy.url), **AT_ONCE, "server": {"drain_seconds": 4}}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        held = Held(api, source, traffic)
        await held.begin()
        traffic.proxy.add(held.late, "PUT", r"/file_[^?]*$", times=2)
        gone = await api.ingest(source.add("/gone", Resource(size=1000)))
        await becomes(lambda: len(held.late.held) == len(CREATING) + 1)
        async with asyncio.TaskGroup() as group:
            group.create_task(_unanswered(api, content_bytes(5000)))
            await becomes(lambda: len(held.late.held) == len(CREATING) + 2)
            silent = traffic.proxy.add(held.late)
            await api.cancel(gone["id"])

            began = time.monotonic()
            status = await server.stop(15)
            took = time.monotonic() - began
        assert (status, took < 5) == (0, True), took
        assert "stop_took_too_long" not in server.log.read_text()

        traffic.proxy.proxy.rules.remove(silent)
        await server.restart()
        files = [await api.completed(task_id) for task_id in held.tasks]
        await held.carried_out(bucket)
        await _is_only(bucket, {file["id"] for file in files})
