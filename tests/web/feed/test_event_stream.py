"""Server-Sent Events of one task."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from mediagen.core.errors import InvalidRequest
from mediagen.web.feed import event_stream as streams
from tests.web.conftest import House


@asynccontextmanager
async def streaming(house: House, task_id: str, after: int | None = None) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    async with house.client.get(f"{house.url}/v1/tasks/{task_id}/events", headers=headers) as answer:
        assert answer.status in {200, 204}
        yield answer


async def event(answer: aiohttp.ClientResponse) -> tuple[int, str, dict[str, Any]] | None:
    """The next event as id, type, data; None at the end of the stream."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(10):
        async for line in answer.content:
            text = line.decode().rstrip("\n")
            if text.startswith(":"):
                fields["comment"] = text
            elif text:
                name, _, value = text.partition(": ")
                fields[name] = value
            elif "data" in fields:
                return int(fields["id"]), fields["event"], json.loads(fields["data"])
            elif "comment" in fields:
                return 0, "comment", {}
    return None


async def rest(answer: aiohttp.ClientResponse) -> list[tuple[int, str, dict[str, Any]]]:
    found = []
    while (one := await event(answer)) is not None:
        found.append(one)
    return found


async def test_the_stream_begins_with_a_snapshot_and_ends_with_the_task(house: House) -> None:
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)

    async with streaming(house, task_id) as answer:
        assert answer.content_type == "text/event-stream"
        assert answer.headers["X-Accel-Buffering"] == "no"
        first = await event(answer)
        stage.report(50)
        second = await event(answer)
        stage.succeed()
        events = await rest(answer)

    assert first is not None
    assert second is not None
    assert (first[1], first[2]["tasks"][0]["id"]) == ("snapshot", task_id)
    assert (second[1], second[2]["task"]["progress"]) == ("task.progress", 50)
    assert (events[-1][1], events[-1][2]["task"]["status"]) == ("task.status", "completed")
    assert first[0] < second[0] < events[-1][0]


async def test_last_event_id_brings_what_was_missed(house: House) -> None:
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)
    async with streaming(house, task_id) as answer:
        first = await event(answer)
    assert first is not None
    stage.succeed()
    await house.ended(task_id)

    async with streaming(house, task_id, after=first[0]) as answer:
        events = await rest(answer)

    assert [(kind, data.get("task", {}).get("status")) for _, kind, data in events] == [
        ("snapshot", None),
        ("task.status", "completed"),
    ]


async def test_an_ended_task_gives_its_snapshot_alone(house: House) -> None:
    task_id = await house.submit()
    (await house.pipeline.stage(task_id)).succeed()
    await house.ended(task_id)

    async with streaming(house, task_id) as answer:
        events = await rest(answer)

    assert [(kind, data["tasks"][0]["status"]) for _, kind, data in events] == [("snapshot", "completed")]


async def test_who_knows_the_end_is_told_to_stay_away(house: House) -> None:
    """An EventSource comes back after each end of its stream; 204 stops it."""
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)
    async with streaming(house, task_id) as answer:
        first = await event(answer)
        stage.succeed()
        last = (await rest(answer))[-1]
    assert first is not None

    async with streaming(house, task_id, after=last[0]) as answer:
        assert (answer.status, await answer.read()) == (204, b"")
    async with streaming(house, task_id, after=first[0]) as answer:
        assert (await rest(answer))[-1][0] == last[0]
    async with streaming(house, task_id) as answer:  # a new one, which knows nothing
        snapshot = (await rest(answer))[-1]
    async with streaming(house, task_id, after=snapshot[0]) as answer:
        assert answer.status == 204
    async with streaming(house, task_id, after=1) as answer:  # of an earlier life of the server, or made up
        events = await rest(answer)
    async with streaming(house, task_id, after=events[-1][0]) as answer:
        assert answer.status == 204


async def test_a_task_that_is_tried_again_is_told_again(house: House) -> None:
    task_id = await house.submit()
    (await house.pipeline.stage(task_id)).fail(InvalidRequest("no"))
    await house.ended(task_id)
    async with streaming(house, task_id) as answer:
        known = (await rest(answer))[-1][0]

    await house.ask("POST", f"/v1/tasks/{task_id}/retry")
    async with streaming(house, task_id, after=known) as answer:
        (await house.pipeline.stage(task_id, attempt=2)).succeed()
        assert answer.status == 200
        assert (await rest(answer))[-1][2]["task"]["status"] == "completed"


async def test_an_unknown_task_has_no_stream(house: House) -> None:
    status, _, _ = await house.ask("GET", "/v1/tasks/task_x/events")

    assert status == 404


async def test_silence_is_broken_by_comments(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)
    task_id = await house.submit()
    await house.pipeline.stage(task_id)

    async with streaming(house, task_id) as answer:
        await event(answer)

        assert await event(answer) == (0, "comment", {})


async def test_http_1_0_gets_the_stream_without_chunks(house: House) -> None:
    task_id = await house.submit()
    (await house.pipeline.stage(task_id)).succeed()
    await house.ended(task_id)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.instance.port)

    writer.write(f"GET /v1/tasks/{task_id}/events HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")

    assert b"chunked" not in head
    assert body.startswith(b"retry: 2000\n\nid: ")
    assert body.endswith(b"\n\n")
    writer.close()
    await writer.wait_closed()


async def test_streams_end_when_the_server_stops(house: House) -> None:
    task_id = await house.submit()
    await house.pipeline.stage(task_id)
    async with streaming(house, task_id) as answer:
        await event(answer)

        async with asyncio.TaskGroup() as group:
            group.create_task(house.stop())
            assert await rest(answer) == []


@pytest.mark.parametrize("number", ["x", "-1", "1" * 17])
async def test_a_wrong_number_is_refused(house: House, number: str) -> None:
    task_id = await house.submit()

    status, problem, _ = await house.ask("GET", f"/v1/tasks/{task_id}/events", headers={"Last-Event-ID": number})

    assert (status, problem["code"]) == (400, "invalid_request")
