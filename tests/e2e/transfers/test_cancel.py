"""A cancel in the middle of the stream, and another try afterwards."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api, Refused, Task
from tests.e2e.traffic import COMPLETE, Traffic
from tests.e2e.waiting import becomes
from tests.infra.content import sha256_of
from tests.infra.resource import Break, Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.faults import StallAnswer
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20
SIZE = 48 * MIB


async def _refused_in_the_end(api: Api, task_id: str) -> tuple[int, str]:
    """How retries are refused, once they no longer count as the same click as the one before; none makes an attempt."""
    async with asyncio.timeout(5):
        while True:
            try:
                assert (await api.retry(task_id))["attempt"] == 2
            except Refused as exc:
                return exc.status, exc.code
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("ranges", ["yes", "no"])
@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_cancelled_within_a_second_and_tried_again(
    tmp_path: Path, source: SourceServer, bucket: Bucket, backend: str, ranges: Any
) -> None:
    # with ranges the fourth body stalls, without them the first: in both cases some of it is stored by then
    trouble = Break(after=12 * MIB if ranges == "no" else MIB, how="stall", skip=0 if ranges == "no" else 3)
    url = source.add("/film", Resource(size=SIZE, ranges=ranges, breaks=[trouble]))
    settings = configuration.s3(bucket) if backend == "s3" else {}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        idle = server.descriptors
        task = await api.ingest(url)
        await source.log.reaches(lambda _: source.sent("/film") >= 12 * MIB)
        async for message in api.events(task["id"]):
            transfer = message.task["transfer"]
            if transfer is not None and transfer["bytes_done"] > 10 * MIB:
                break

        began = time.monotonic()
        cancelled = await api.cancel(task["id"])
        took = time.monotonic() - began

        assert (cancelled["status"], cancelled["attempt"], cancelled["progress"]) == ("cancelled", 1, None)
        assert cancelled["error"] is not None
        assert cancelled["error"]["code"] == "cancelled"
        assert took < 1
        await source.log.reaches(lambda log: all(request.ended for request in log))
        await leavings.only(bucket)
        leavings.only_here(server)
        assert (await api.cancel(task["id"]))["status"] == "cancelled"
        fetched = source.sent("/film")

        source.release("/film")
        answers = await asyncio.gather(*(api.retry(task["id"]) for _ in range(10)))

        assert {answer["attempt"] for answer in answers} == {2}
        file = await api.completed(task["id"])
        assert (await api.task(task["id"]))["attempt"] == 2
        assert await _refused_in_the_end(api, task["id"]) == (409, "conflict")
        with pytest.raises(Refused) as refused:
            await api.cancel(task["id"])
        assert refused.value.status == 409
        assert source.sent("/film") - fetched < SIZE + 24 * MIB, "one attempt fetched it, not two"
        if backend == "s3":
            assert await bucket.sha256((await bucket.keys())[0]) == sha256_of(SIZE)
            await leavings.only(bucket, file)
        else:
            assert (await api.content(file)).sha256 == sha256_of(SIZE)
            leavings.only_here(server, file)
        leavings.no_child(server)
        assert server.descriptors <= idle + 10, "the pool of connections to the store, and nothing of the source"


async def test_a_queued_task_is_cancelled_at_once_and_attempts_run_out(tmp_path: Path, source: SourceServer) -> None:
    stalled = source.add("/first", Resource(size=MIB, breaks=[Break(after=1000, how="stall")]))
    url = source.add("/second", Resource(size=1000))
    settings = {"tasks": {"lanes": {"ingest": 1}, "max_attempts": 2}}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        first = await api.ingest(stalled)
        await source.log.reaches(lambda _: source.sent("/first") == 1000)
        second = await api.ingest(url)
        assert (await api.cancel(second["id"]))["status"] == "cancelled"
        assert (await api.retry(second["id"]))["attempt"] == 2
        assert (await api.cancel(second["id"]))["status"] == "cancelled"

        assert await _refused_in_the_end(api, second["id"]) == (409, "attempts_exhausted")
        assert source.requests("/second") == []
        outcome = await api.call("POST", "/v1/tasks/cancel", json={"ids": [first["id"], second["id"]]})
        assert [item["ok"] for item in outcome["data"]] == [True, True]
        leavings.only_here(server)


async def test_clean_ups_leave_content_alone_that_is_still_coming(tmp_path: Path, source: SourceServer) -> None:
    """What a running request has written down to be removed, should it fail, is not removed by the end of a task."""
    trouble = Break(after=6 * MIB, how="stall")
    stalled = source.add("/film", Resource(size=8 * MIB, ranges="no", breaks=[trouble]))
    go_on = asyncio.Event()

    async def body() -> Any:
        yield b'{"data": "' + b"QUJD" * MIB
        await go_on.wait()
        yield b'"}'

    async with Server(tmp_path) as server, Api(server.url) as api:
        task = await api.ingest(stalled)
        await source.log.reaches(lambda _: source.sent("/film") == 6 * MIB)
        async with asyncio.TaskGroup() as group:
            headers = {"Content-Type": "application/json"}
            answer = group.create_task(api.call("POST", "/v1/ingest", data=body(), headers=headers))
            await becomes(lambda: len(leavings.media(server)) == 2)
            assert (await api.cancel(task["id"]))["status"] == "cancelled"
            await becomes(lambda: len(leavings.media(server)) == 1)
            go_on.set()

        file = answer.result()["result"]["file"]
        assert (await api.content(file)).size == 3 * MIB
        leavings.only_here(server, file)


async def test_cancelled_while_the_store_completes_the_upload(
    tmp_path: Path, source: SourceServer, bucket: Bucket, traffic: Traffic
) -> None:
    url = source.add("/film", Resource(size=24 * MIB))
    silence = StallAnswer()
    traffic.proxy.add(silence, "POST", COMPLETE, times=1)
    async with Server(tmp_path, configuration.s3(bucket, traffic.proxy.url)) as server, Api(server.url) as api:
        task = await api.ingest(url)
        await traffic.reaches(lambda _: any(one.status == 200 for one in traffic.completions()))
        assert len(await bucket.keys()) == 1

        began = time.monotonic()
        assert (await api.cancel(task["id"]))["status"] == "cancelled"
        assert time.monotonic() - began < 1

        traffic.proxy.call(silence.release.set)
        await traffic.settled()
        await leavings.only(bucket)
        assert await api.files() == []
        assert (await api.task(task["id"]))["status"] == "cancelled"


async def test_cancels_that_race_the_end(tmp_path: Path, source: SourceServer, chance: random.Random) -> None:
    """Either it is completed and the file is there, or it is cancelled and nothing is; and the caller is told which."""
    urls = [source.add(f"/{number}", Resource(size=200_000 * (number % 4), seed=number)) for number in range(60)]
    async with Server(tmp_path, {"tasks": {"lanes": {"ingest": 8}}}) as server, Api(server.url) as api:

        async def submit_and_cancel(url: str) -> tuple[Task, int]:
            task = await api.ingest(url)
            await asyncio.sleep(chance.uniform(0, 0.3))
            try:
                await api.cancel(task["id"])
            except Refused as exc:
                return await api.ended(task["id"]), exc.status
            return await api.ended(task["id"]), 200

        outcomes = await asyncio.gather(*map(submit_and_cancel, urls))

        assert {(task["status"], status) for task, status in outcomes} <= {("completed", 409), ("cancelled", 200)}
        files = [task["result"]["file"] for task, _ in outcomes if task["result"] is not None]
        assert len(files) == sum(status == 409 for _, status in outcomes)
        assert {file["id"] for file in await api.files()} == {file["id"] for file in files}
        await becomes(lambda: len(leavings.media(server)) == len(files))
        leavings.only_here(server, *files)
