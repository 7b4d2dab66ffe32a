"""What clients see of a real transfer while it runs, over WebSocket and Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.api import Api, Message, Transfer
from tests.e2e.waiting import becomes
from tests.infra.resource import Break, Resource
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20
SIZE = 24 * MIB
STAGES = ("download", "upload")


async def over_sse(api: Api, task_id: str, ready: asyncio.Event, *, after: int | None = None) -> list[Message]:
    """All events of a task until the server ends the stream."""
    seen = []
    async for message in api.events(task_id, after=after):
        seen.append(message)
        ready.set()
    return seen


async def over_websocket(api: Api, task_id: str, ready: asyncio.Event, *, after: int | None = None) -> list[Message]:
    """All messages about a task until it has ended."""
    seen = []
    async with api.socket() as socket:
        await socket.subscribe([task_id], after=after)
        async for message in socket:
            seen.append(message)
            ready.set()
            if message.type != "snapshot" and message.task["ended_at"] is not None:
                break
    return seen


def is_in_order(messages: Sequence[Message]) -> None:
    """Numbers grow, nothing goes back, no more than ten readings a second."""
    assert messages[0].type == "snapshot"
    numbers = [message.seq for message in messages[1:]]
    assert numbers == sorted(set(numbers))
    assert messages[0].seq <= min(numbers, default=messages[0].seq)
    percents = [task["progress"] for task in (message.task for message in messages) if task["progress"] is not None]
    assert percents == sorted(percents)
    transfers = [transfer for message in messages if (transfer := message.task["transfer"]) is not None]
    done = [(STAGES.index(transfer["stage"]), transfer["bytes_done"]) for transfer in transfers]
    assert done == sorted(done)
    readings = [message.at for message in messages if message.type == "task.progress"]
    for first, eleventh in zip(readings, readings[11:], strict=False):
        assert eleventh - first > 0.9, "more than ten readings within a second"


async def test_both_feeds_tell_the_whole_story(tmp_path: Path, source: SourceServer) -> None:
    first = source.add("/first", Resource(size=1000, breaks=[Break(after=10, how="stall")]))
    url = source.add("/film", Resource(size=SIZE, rate=3 * MIB))
    async with Server(tmp_path, {"tasks": {"lanes": {"ingest": 1}}}) as server, Api(server.url) as api:
        await api.ingest(first)
        await source.log.reaches(lambda _: source.sent("/first") == 10)
        task = await api.ingest(url)
        watching = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            events = group.create_task(over_sse(api, task["id"], watching[0]))
            messages = group.create_task(over_websocket(api, task["id"], watching[1]))
            for ready in watching:
                await ready.wait()
            source.release("/first")

        for seen in (events.result(), messages.result()):
            is_in_order(seen)
            assert seen[0].task["status"] == "queued"
            facts = [message.task["status"] for message in seen if message.type == "task.status"]
            assert facts == ["running", "completed"]
            assert seen[-1].type == "task.status"
            assert seen[-1].task["progress"] == 100
            readings = [message.task for message in seen if message.type == "task.progress"]
            assert len(readings) >= 5
            assert all(0 <= (reading["progress"] or 0) < 100 for reading in readings)
            last = readings[-1]["transfer"]
            assert last is not None
            assert (last["stage"], last["bytes_done"], last["bytes_total"]) == ("upload", SIZE, SIZE)
            moving = [transfer for reading in readings if (transfer := reading["transfer"]) is not None]
            assert {transfer["bytes_total"] for transfer in moving} == {SIZE}
            assert max(transfer["bytes_per_second"] for transfer in moving) > MIB

        # who comes back later hears what was missed, then the end
        missed = await over_sse(api, task["id"], asyncio.Event(), after=events.result()[0].seq)
        assert [message.type for message in missed] == ["snapshot", "task.status", "task.status"]
        assert missed[0].data["reset"] is False


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_readers_come_back_over_a_restart(tmp_path: Path, source: SourceServer, end: str) -> None:
    # six parts: four are fetched, then the last two stall
    trouble = Break(after=6 * MIB, how="stall", skip=5)
    url = source.add("/film", Resource(size=48 * MIB, rate=12 * MIB, breaks=[trouble]))
    async with Server(tmp_path) as server, Api(server.url) as api:
        task = await api.ingest(url)
        known: list[Message] = []
        async for message in api.events(task["id"]):
            known.append(message)
            if (message.task["progress"] or 0) >= 85:
                break
        await (server.kill9() if end == "kill" else server.stop())

        await server.restart()
        source.release("/film")
        watching = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            events = group.create_task(over_sse(api, task["id"], watching[0], after=known[-1].seq))
            messages = group.create_task(over_websocket(api, task["id"], watching[1], after=known[-1].seq))

        for seen in (events.result(), messages.result()):
            assert seen[0].data["reset"] is True
            assert all(message.seq > known[-1].seq for message in seen)
            is_in_order(seen)
            assert seen[-1].task["status"] == "completed"
            done = [transfer["bytes_done"] for message in seen if (transfer := message.task["transfer"]) is not None]
            assert done[0] >= 24 * MIB, "what was there before counts"


@pytest.mark.parametrize("size_known", [True, False])
async def test_a_slow_source_is_told_as_it_comes_and_a_stall_as_nothing(
    tmp_path: Path, source: SourceServer, size_known: bool
) -> None:
    stall = Break(after=120_000, how="stall")
    resource = Resource(
        size=5 * MIB,
        ranges="yes" if size_known else "no",
        framing="length" if size_known else "chunked",
        rate=40_000,
        breaks=[stall],
    )
    url = source.add("/slow", resource)
    async with Server(tmp_path) as server, Api(server.url) as api:
        task = await api.ingest(url)
        moving: list[tuple[float, Transfer]] = []
        async with asyncio.timeout(60):
            async for message in api.events(task["id"]):
                transfer = message.task["transfer"]
                if transfer is not None:
                    moving.append((message.at, transfer))
                    if transfer["bytes_per_second"] == 0 and transfer["bytes_done"] > 0:
                        break

    counts = [transfer["bytes_done"] for _, transfer in moving]
    assert len(set(counts)) >= 3, counts  # far from a MiB
    assert counts[-1] == counts[-2] <= 120_000
    rates = [transfer["bytes_per_second"] for _, transfer in moving[:-1]]
    assert min(rates) > 0
    assert [transfer["bytes_total"] for _, transfer in moving] == [5 * MIB if size_known else None] * len(moving)


async def test_unknown_sizes_stay_unknown(tmp_path: Path, source: SourceServer) -> None:
    resource = Resource(size=6 * MIB, ranges="no", framing="chunked", rate=12 * MIB)
    url = source.add("/film", resource)
    async with Server(tmp_path) as server, Api(server.url) as api:
        accepted = await api.ingest(url)

        seen = await over_sse(api, accepted["id"], asyncio.Event())

        moving = [message.task for message in seen if message.task["transfer"] is not None]
        assert moving
        # the last reading knows, since all has come
        assert {reading["progress"] for reading in moving[:-1]} <= {None}
        totals = [transfer["bytes_total"] for task in moving[:-1] if (transfer := task["transfer"]) is not None]
        assert set(totals) <= {None}
        assert seen[-1].task["progress"] == 100


async def test_all_tasks_on_one_socket(tmp_path: Path, source: SourceServer) -> None:
    urls = [source.add(f"/{number}", Resource(size=200_000, seed=number)) for number in range(20)]
    async with Server(tmp_path) as server, Api(server.url) as api:
        told: dict[str, list[str]] = {}

        def all_ended() -> bool:
            return len(told) == len(urls) and all(facts[-1] == "completed" for facts in told.values())

        async def listen() -> None:
            async with api.socket() as socket:
                await socket.subscribe("all")
                async for message in socket:
                    if message.type == "task.status":
                        told.setdefault(message.task["id"], []).append(message.task["status"])
                    elif message.type == "snapshot":
                        subscribed.set()
                    if all_ended():
                        break

        subscribed = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            await subscribed.wait()
            tasks = [await api.ingest(url) for url in urls]
            await becomes(all_ended)

        assert told == {task["id"]: ["queued", "running", "completed"] for task in tasks}
