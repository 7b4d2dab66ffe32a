"""The WebSocket feed: snapshot first, facts in order, and nobody waits for anybody."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from mediagen.core.errors import FetchFailed
from mediagen.core.events import Event, EventType
from mediagen.web import sockets
from tests.web.conftest import House

UNKNOWN = "task_" + "0" * 32


@asynccontextmanager
async def listening(house: House, **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with house.client.ws_connect(f"{house.url}/v1/ws", **options) as client:
        yield client


async def told(client: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    async with asyncio.timeout(10):
        return dict(await client.receive_json())


async def until(client: aiohttp.ClientWebSocketResponse, status: str) -> list[dict[str, Any]]:
    """Messages up to the one in which a task has that status."""
    messages = []
    while True:
        messages.append(await told(client))
        if messages[-1].get("task", {}).get("status") == status:
            return messages


async def test_a_subscriber_gets_a_snapshot_and_then_what_happens(house: House) -> None:
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)

    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": [task_id, UNKNOWN]})
        snapshot = await told(client)
        stage.report(10)
        reading = await told(client)
        stage.succeed()
        end = (await until(client, "completed"))[-1]

    assert (snapshot["type"], snapshot["tasks"][0]["id"], snapshot["missing"]) == ("snapshot", task_id, [UNKNOWN])
    assert (snapshot["reset"], snapshot["has_more"]) == (False, False)
    assert (reading["type"], reading["task_id"], reading["task"]["progress"]) == ("task.progress", task_id, 10)
    assert snapshot["seq"] < reading["seq"] < end["seq"]
    assert end["type"] == "task.status"


async def test_a_subscriber_of_all_hears_of_new_tasks_and_can_leave(house: House) -> None:
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": "all"})
        assert (await told(client))["tasks"] == []

        first = await house.submit()
        assert (await until(client, "running"))[-1]["task_id"] == first
        await client.send_json({"type": "unsubscribe"})
        await client.send_json({"type": "ping"})
        assert (await told(client))["type"] == "pong"
        second = await house.submit()
        await house.pipeline.stage(second)
        await client.send_json({"type": "ping"})

        assert (await told(client))["type"] == "pong"


async def test_missed_facts_come_in_order_after_the_snapshot(house: House) -> None:
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": [task_id]})
        seen = (await told(client))["seq"]
    stage.fail(FetchFailed("no"))
    await house.ended(task_id)
    await house.ask("POST", f"/v1/tasks/{task_id}/retry")
    (await house.pipeline.stage(task_id, attempt=2)).succeed()
    await house.ended(task_id)

    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": [task_id], "after": seen})
        snapshot, *missed = [await told(client) for _ in range(5)]

    assert snapshot["tasks"][0]["status"] == "completed"
    assert [event["task"]["status"] for event in missed] == ["failed", "queued", "running", "completed"]
    assert [event["seq"] for event in missed] == sorted(event["seq"] for event in missed)


async def test_a_number_that_is_not_remembered_resets(house: House) -> None:
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": "all", "after": 1})

        assert (await told(client))["reset"] is True


async def test_a_completed_event_shows_the_file_with_a_url(house: House) -> None:
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": [task_id]})
        await told(client)
        stage.succeed(await house.pipeline.store(b"abc", task_id=task_id, media_type="text/plain", filename="a"))
        end = (await until(client, "completed"))[-1]

    assert end["task"]["result"]["file"]["url"].startswith(house.url)


@pytest.mark.parametrize(
    "message",
    [
        "x",
        "[]",
        '{"type": "surprise"}',
        '{"type": "subscribe"}',
        '{"type": "subscribe", "tasks": []}',
        '{"type": "subscribe", "tasks": ["../x"]}',
        '{"type": "subscribe", "tasks": "all", "after": -1}',
    ],
)
async def test_what_is_not_understood_is_said_and_the_connection_stays(house: House, message: str) -> None:
    async with listening(house) as client:
        await client.send_str(message)
        assert (await told(client))["type"] == "error"
        await client.send_bytes(b"x")
        assert (await told(client))["type"] == "error"
        await client.send_json({"type": "ping"})
        assert (await told(client))["type"] == "pong"


async def test_a_message_over_64_kib_ends_the_connection(house: House) -> None:
    async with listening(house) as client:
        await client.send_str("x" * 70_000)
        async with asyncio.timeout(10):
            message = await client.receive()

        assert (message.type, client.close_code) == (aiohttp.WSMsgType.CLOSE, 1009)


async def test_too_many_named_tasks_are_refused(house: House) -> None:
    async with listening(house) as client:
        for block in ("a", "b"):
            ids = [f"task_{block}{number:031x}" for number in range(600)]
            await client.send_json({"type": "subscribe", "tasks": ids})

        assert [(await told(client))["type"] for _ in range(2)] == ["snapshot", "error"]


async def test_a_foreign_page_gets_no_feed(house: House) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with listening(house, headers={"Origin": "https://evil.example"}):
            pass

    assert refused.value.status == 403


async def test_readers_are_told_to_go_when_the_server_stops(house: House) -> None:
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": "all"})
        await told(client)

        async with asyncio.TaskGroup() as group:
            group.create_task(house.stop())
            message = await client.receive()

        assert (message.type, client.close_code) == (aiohttp.WSMsgType.CLOSE, 1001)


async def bulky(house: House) -> str:
    """A task whose every event is some 250 kB, so that socket buffers fill up; running its second attempt."""
    task_id = await house.submit()
    (await house.pipeline.stage(task_id)).fail(FetchFailed("no"))
    await house.ended(task_id)
    notes = {f"note{number}": "some text " * 1600 for number in range(16)}
    status, _, _ = await house.ask("POST", f"/v1/tasks/{task_id}/retry", json=notes)
    assert status == 200
    await house.pipeline.stage(task_id, attempt=2)
    return task_id


async def deaf(house: House, task_id: str) -> socket.socket:
    """A reader that subscribes and then reads no more."""
    sock = socket.create_connection(("127.0.0.1", house.instance.port))
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    request = (
        "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    await loop.sock_sendall(sock, request.encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await loop.sock_recv(sock, 1)
    text = json.dumps({"type": "subscribe", "tasks": [task_id]}).encode()
    await loop.sock_sendall(sock, bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)  # masked with zeros
    await loop.sock_recv(sock, 1)  # the snapshot has begun to come
    return sock


async def test_readers_that_never_read_do_not_slow_the_others_and_are_cut_off(house: House) -> None:
    task_id = await bulky(house)
    dead = [await deaf(house, task_id) for _ in range(3)]
    late: list[float] = []
    loop = asyncio.get_running_loop()
    try:
        async with listening(house) as client:
            await client.send_json({"type": "subscribe", "tasks": [task_id]})
            await told(client)
            assert house.instance.hub.readers == 4
            for number in range(80):
                began = loop.time()
                await house.instance.service.set_priority(task_id, number)
                while (await told(client))["task"]["priority"] != number:
                    continue
                late.append(loop.time() - began)
            await client.send_json({"type": "ping"})
            assert (await told(client))["type"] == "pong"

            assert sorted(late)[len(late) // 2] < 0.2
            assert house.instance.hub.readers == 1
    finally:
        for sock in dead:
            sock.close()


async def test_a_slow_reader_gets_every_fact_in_order_and_the_latest_reading(house: House) -> None:
    task_id = await bulky(house)
    stage = await house.pipeline.stage(task_id, attempt=2)
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": [task_id]})
        await told(client)
        for number in range(25):  # some 6 MB: more than socket buffers and what the client reads ahead
            await house.instance.service.set_priority(task_id, number)
            stage.report(number)
        stage.succeed()
        await house.instance.service.wait(task_id)

        messages = await until(client, "completed")

    facts = [message["task"]["priority"] for message in messages if message["type"] == "task.status"]
    assert facts[:25] == list(range(25))
    assert [message["seq"] for message in messages] == sorted(message["seq"] for message in messages)


async def test_a_peer_that_answers_no_ping_is_closed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "HEARTBEAT_SECONDS", 0.1)
    sock = await deaf(house, await house.submit())
    try:
        async with asyncio.timeout(10):
            while house.instance.hub.readers:
                await asyncio.sleep(0.01)
    finally:
        sock.close()


async def test_after_a_burst_that_nobody_could_follow_readers_come_back(house: House) -> None:
    task_id = await house.submit()
    await house.pipeline.stage(task_id)
    task = await house.instance.service.get(task_id)
    bus = house.instance.hub._bus
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": "all"})
        seen = (await told(client))["seq"]
        for _ in range(1_100):  # in one turn of the loop: more facts than a reader may owe, the hub included
            bus.publish(Event(bus.next_seq(), EventType.STATUS, task))
        async with asyncio.timeout(10):
            while not client.closed:
                await client.receive()
        code = client.close_code

    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": [task_id], "after": seen})
        snapshot, *missed = [await told(client) for _ in range(101)]

    assert code == 1013
    assert (snapshot["reset"], missed[0]["seq"]) == (False, seen + 1)


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "ping", "type": "ping"}',
        '{"type": "subscribe", "tasks": "all", "after": ' + "1" * 5000 + "}",
        '{"type": "subscribe", "tasks": "all", "after": 1e999}',
        '{"type": "subscribe", "tasks": "all", "after": NaN}',
        '{"type": "subscribe", "tasks": ["\\ud800"]}',
        '{"type": "pi\nng"}',
        "[" * 30_000,
        "[" * 1000 + "]" * 1000,
        "{" + ",".join(f'"{at}":0' for at in range(7000)) + "}",
    ],
)
async def test_a_message_that_is_no_good_json_is_refused_and_the_next_one_is_heard(house: House, text: str) -> None:
    async with listening(house) as client:
        await client.send_str(text)
        assert (await told(client))["type"] == "error"
        await client.send_json({"type": "ping"})
        assert (await told(client))["type"] == "pong"
