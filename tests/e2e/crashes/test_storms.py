"""Fifty at once, and fifty more after a kill: one task, one file, one attempt, one cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api, File, Refused, Task
from tests.infra.content import content_bytes, crc32_of
from tests.infra.resource import Break, Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20
MANY = 50
LIMITS: dict[str, Any] = {"limits": {"uploads_at_once": 4 * MANY}}


async def storm(call: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What fifty of these calls at once give; what a call refuses, or that it found nobody, is given as well."""

    async def one() -> Any:
        try:
            return await call()
        except (Refused, aiohttp.ClientError) as exc:
            return exc

    return await asyncio.gather(*(one() for _ in range(MANY)))


async def killed_in_the_middle(server: Server, call: Callable[[], Awaitable[Any]]) -> list[Any]:
    """A storm whose server dies as soon as one call was answered, and is started again."""
    answered = asyncio.Event()

    async def noted() -> Any:
        answer = await call()
        answered.set()
        return answer

    async with asyncio.TaskGroup() as group:
        calls = group.create_task(storm(noted))
        await answered.wait()
        await server.kill9()
    await server.restart()
    return [answer for answer in calls.result() if not isinstance(answer, Exception)]


async def test_one_idempotency_key_makes_one_task(tmp_path: Path, source: SourceServer) -> None:
    url = source.add("/film", Resource(size=MIB))
    async with Server(tmp_path, LIMITS) as server, Api(server.url) as api:

        async def create() -> Task:
            task: Task = await api.call("POST", "/v1/ingest", json={"url": url}, headers={"Idempotency-Key": "a"})
            return task

        before = await killed_in_the_middle(server, create)
        after = await storm(create)

        assert len({task["id"] for task in (*before, *after)}) == 1
        file = await api.completed(after[0]["id"])
        assert [task["id"] for task in await api.tasks()] == [after[0]["id"]]
        leavings.only_here(server, file)


@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_one_idempotency_key_makes_one_file(tmp_path: Path, bucket: Bucket, backend: str) -> None:
    size = 300_000
    settings = configuration.s3(bucket) if backend == "s3" else {}
    async with Server(tmp_path, {**LIMITS, **settings}) as server, Api(server.url) as api:

        async def upload() -> File:
            headers = {"Idempotency-Key": "a", "X-Filename": "a.bin"}
            file: File = await api.call("POST", "/v1/files", data=content_bytes(size), headers=headers)
            return file

        before = await killed_in_the_middle(server, upload)
        after = await storm(upload)

        assert not [answer for answer in after if isinstance(answer, Exception)]
        assert len({file["id"] for file in (*before, *after)}) == 1
        (file,) = await api.files()
        assert file["checksum"]["value"] == f"{crc32_of(size):08x}"
        with pytest.raises(Refused) as refused:
            await api.call("POST", "/v1/files", data=b"other", headers={"Idempotency-Key": "a"})
        assert (refused.value.status, refused.value.code) == (422, "idempotency_mismatch")
        async with asyncio.timeout(20):  # what the killed ones left is removed after the start
            while True:
                try:
                    await (leavings.only(bucket, file) if backend == "s3" else _only_here(server, file))
                    break
                except AssertionError:
                    await asyncio.sleep(0.1)


async def _only_here(server: Server, file: File) -> None:
    leavings.only_here(server, file)


async def test_retries_make_one_attempt(tmp_path: Path, source: SourceServer) -> None:
    # the first attempt is refused; the second one waits, so that it is there to be asked for again
    broken = source.add("/film", Resource(size=MIB, ranges="no", breaks=[Break(after=1000, how="stall", skip=0)]))
    settings = {**LIMITS, "fetch": {"stall_seconds": 1, "attempts": 1}}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        task = await api.ingest(broken)
        assert (await api.ended(task["id"]))["status"] == "failed"
        server.configure({**settings, "fetch": {"stall_seconds": 60, "attempts": 1}})
        await server.restart()

        before = await killed_in_the_middle(server, lambda: api.retry(task["id"]))
        after = await storm(lambda: api.retry(task["id"]))

        assert {answer["attempt"] for answer in before} == {2}
        # it waits or runs again: nobody may try anew what has not ended
        assert {answer.status for answer in after} == {409}
        assert (await api.task(task["id"]))["attempt"] == 2
        source.release("/film")
        assert (await api.ended(task["id"]))["attempt"] == 2


async def test_cancels_give_one_end(tmp_path: Path, source: SourceServer) -> None:
    url = source.add("/film", Resource(size=MIB, ranges="no", breaks=[Break(after=1000, how="stall", skip=0)]))
    async with Server(tmp_path, LIMITS) as server, Api(server.url) as api:
        task = await api.ingest(url)
        await api.until(task["id"], "running")

        before = await killed_in_the_middle(server, lambda: api.cancel(task["id"]))
        after = await storm(lambda: api.cancel(task["id"]))

        assert {answer["status"] for answer in (*before, *after)} == {"cancelled"}
        assert len({answer["ended_at"] for answer in (*before, *after)}) == 1
        leavings.only_here(server)
