"""A client that lost the answer asks again with the same Idempotency-Key: one task, also over a crash."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e import leavings
from tests.e2e.api import Api, Refused
from tests.e2e.waiting import becomes
from tests.infra.resource import Break, Resource
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20


async def post(api: Api, key: str, document: Any) -> Any:
    """The task of a creating call."""
    return await api.call("POST", "/v1/ingest", json=document, headers={"Idempotency-Key": key})


async def test_a_repeated_call_makes_no_second_task(tmp_path: Path, source: SourceServer) -> None:
    trouble = Break(after=1000, how="stall", times=1)
    url = source.add("/film", Resource(size=MIB, ranges="no", breaks=[trouble]))
    async with Server(tmp_path) as server, Api(server.url) as api:
        answers = await asyncio.gather(*(post(api, "first", {"url": url}) for _ in range(10)))
        (task_id,) = {answer["id"] for answer in answers}
        await source.log.reaches(lambda _: source.sent("/film") == 1000)
        await server.kill9()

        await server.restart()

        assert (await post(api, "first", {"url": url}))["id"] == task_id
        file = await api.completed(task_id)
        assert (await post(api, "first", {"url": url}))["result"]["file"]["id"] == file["id"]
        with pytest.raises(Refused) as refused:
            await post(api, "first", {"url": url + "?other"})
        assert refused.value.status == 422
        assert [task["id"] for task in await api.tasks()] == [task_id]
        assert (await post(api, "second", {"url": url}))["id"] != task_id


async def test_content_that_is_sent_again_is_stored_once(tmp_path: Path) -> None:
    body = b'{"data": "' + b"QUJD" * MIB + b'"}'
    headers = {"Content-Type": "application/json", "Idempotency-Key": "content"}

    async def send(api: Api) -> Any:
        return await api.call("POST", "/v1/ingest", data=io.BytesIO(body), headers=headers)

    async def send_into_a_crash(api: Api) -> str | None:
        try:
            return str((await send(api))["id"])
        except aiohttp.ClientError:
            return None

    async with Server(tmp_path) as server, Api(server.url) as api:
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(send_into_a_crash(api))
            await becomes(lambda: bool(leavings.media(server)))
            await server.kill9()

        await server.restart()
        first = await send(api)
        second = await send(api)

        assert first["id"] == second["id"]
        assert sending.result() in (None, first["id"])
        assert len(await api.tasks()) == 1
        leavings.only_here(server, first["result"]["file"])
