"""A server that is killed again and again: every end of a task is told, at least once, always with the same id."""

from __future__ import annotations

import asyncio
import random
from base64 import b64encode
from collections import defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import standardwebhooks

from mediagen.events.webhooks.signing import generate_secret
from tests.e2e.api import Api
from tests.infra.resource import Answer, Break, Resource
from tests.infra.servers.mediagen import Server
from tests.infra.servers.receiver import Event, Receiver
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

ENDS = {"completed", "failed", "cancelled", "timed_out"}


def settings(secret: str) -> dict[str, Any]:
    """A schedule that needs no patience."""
    return {"webhooks": {"secret": secret, "schedule_seconds": [0.0] + [0.2] * 19}}


def by_task(receiver: Receiver, secret: str) -> dict[str, list[Event]]:
    """What came for each task, every signature checked."""
    told = defaultdict(list)
    for event in receiver.events:
        body = standardwebhooks.Webhook(secret).verify(event.body, event.headers)
        assert body["id"] == event.id
        told[body["data"]["id"]].append(event)
    return told


async def test_every_end_is_told_again_after_a_kill_with_the_same_id(tmp_path: Path, source: SourceServer) -> None:
    secret = generate_secret()
    good = source.add("/good", Resource(size=100_000))
    stuck = source.add("/stuck", Resource(size=1000, breaks=[Break(after=10, how="stall")]))
    async with Receiver() as receiver, Server(tmp_path, settings(secret)) as server, Api(server.url) as api:
        hook = receiver.replies(always="hang")
        ids = {
            "completed": (await api.ingest(good, webhook_url=hook))["id"],
            "failed": (await api.ingest(source.url("/nothing"), webhook_url=hook))["id"],
            "timed_out": (await api.ingest(stuck, webhook_url=hook, timeout_seconds=0.5))["id"],
            "cancelled": (await api.ingest(stuck, webhook_url=hook))["id"],
        }
        await api.cancel(ids["cancelled"])
        await receiver.reaches(lambda: len(receiver.events) == 4)  # on their way, and no answer yet
        await server.kill9()
        before = by_task(receiver, secret)
        receiver.replies(always=Answer(204))
        receiver.release()

        await server.restart()
        await receiver.reaches(lambda: len(receiver.events) >= 8)
        told = by_task(receiver, secret)
        page = await _all_delivered(api, 4)

    assert {status: told[task_id][-1].json["data"]["status"] for status, task_id in ids.items()} == {
        status: status for status in ENDS
    }
    for task_id, events in told.items():
        assert {event.id for event in events} == {before[task_id][0].id}
        assert {event.json["type"] for event in events} == {before[task_id][0].json["type"]}
    assert {delivery["id"] for delivery in page} == {event.id for event in receiver.events}
    assert secret not in server.log.read_text()
    assert secret[6:] not in server.log.read_text()


@pytest.mark.timeout(120)
async def test_killed_at_any_moment_no_end_is_lost(tmp_path: Path, source: SourceServer, chance: random.Random) -> None:
    secret, data = generate_secret(), b64encode(b"a fox" * 100).decode()
    quick = source.add("/quick", Resource(size=5000))
    async with Receiver() as receiver, Server(tmp_path, settings(secret)) as server, Api(server.url) as api:
        hook = receiver.replies(*[Answer(503)] * 5, always=Answer(200))
        for _ in range(4):
            async with asyncio.TaskGroup() as group:
                group.create_task(_burst(api, hook, data, quick))
                await asyncio.sleep(chance.uniform(0.02, 0.4))
                await server.kill9()
            await server.restart()
        accepted = await api.tasks()
        for task in accepted:
            await api.ended(task["id"])
        accepted_ids = {task["id"] for task in accepted}
        await _all_delivered(api, len(accepted_ids))
        told = by_task(receiver, secret)

    assert accepted_ids
    assert set(told) == accepted_ids
    assert all(len({event.id for event in events}) == 1 for events in told.values())


async def _burst(api: Api, hook: str, data: str, url: str) -> None:
    """Tasks that end at once and tasks that are carried out, until the server goes."""
    for _ in range(12):
        for sent in ({"data": data}, {"url": url}):
            try:
                await api.call("POST", "/v1/ingest", json={**sent, "webhook_url": hook})
            except (OSError, aiohttp.ClientError):
                return


async def _all_delivered(api: Api, count: int) -> list[dict[str, Any]]:
    """All deliveries, once none waits."""
    async with asyncio.timeout(30):
        while True:
            page = (await api.call("GET", "/v1/webhooks/deliveries", params={"limit": 100}))["data"]
            if len(page) == count and all(delivery["status"] == "delivered" for delivery in page):
                return list(page)
            await asyncio.sleep(0.05)


async def test_a_stop_is_not_held_up_by_a_receiver_that_hangs(tmp_path: Path) -> None:
    secret = generate_secret()
    async with Receiver() as receiver, Server(tmp_path, settings(secret)) as server, Api(server.url) as api:
        hook = receiver.replies("hang")
        await api.call("POST", "/v1/ingest", json={"data": "aGVsbG8=", "webhook_url": hook})
        await receiver.reaches(lambda: len(receiver.events) == 1)
        began = asyncio.get_running_loop().time()

        assert await server.stop() == 0

        assert asyncio.get_running_loop().time() - began < 10
        await server.restart()
        await _all_delivered(api, 1)
        assert len({event.id for event in receiver.events}) == 1
