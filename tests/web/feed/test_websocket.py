"""The WebSocket feed: snapshot first, facts in order, and nobody waits for anybody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from mediagen.core.errors import FetchFailed
from mediagen.core.events import Event, EventType
from mediagen.core.tasks import Task
from mediagen.web.feed import websocket as sockets
from mediagen.web.feed.subscriber import WRITE_BYTES
from tests.web.conftest import House, Start
from tests.web.rawsocket import CLOSE, PING, PONG, TEXT, RawSocket

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


async def deaf(house: House, task_id: str) -> RawSocket:
    """A reader that subscribes and then reads no more."""
    raw = await RawSocket.open(house)
    await raw.say({"type": "subscribe", "tasks": [task_id]})
    await raw.some(1)  # the snapshot has begun to come
    return raw


async def test_readers_that_never_read_do_not_slow_the_others_and_are_cut_off(start: Start) -> None:
    house = await start(server={"body_idle_seconds": 1})
    task_id = await bulky(house)
    dead = [await deaf(house, task_id) for _ in range(3)]
    late: list[float] = []
    loop = asyncio.get_running_loop()
    try:
        async with listening(house) as client:
            await client.send_json({"type": "subscribe", "tasks": [task_id]})
            await told(client)
            assert house.instance.hub.readers == 4
            for number in range(40):
                began = loop.time()
                await house.instance.service.set_priority(task_id, number)
                while (await told(client))["task"]["priority"] != number:
                    continue
                late.append(loop.time() - began)
            held = [reader.transport.get_write_buffer_size() for reader in house.instance.hub._readers]
            async with asyncio.timeout(20):
                while house.instance.hub.readers > 1:
                    await asyncio.sleep(0.02)
            await client.send_json({"type": "ping"})
            assert (await told(client))["type"] == "pong"
    finally:
        for sock in dead:
            sock.close()

    assert sorted(late)[len(late) // 2] < 0.2
    assert max(held) <= WRITE_BYTES, "a reader holds more of our memory than one write"


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


def burst(house: House, task: Task, facts: int) -> list[int]:
    """So many facts in one turn of the loop; their numbers."""
    bus = house.instance.hub._bus
    events = [Event(bus.next_seq(), EventType.STATUS, task) for _ in range(facts)]
    for event in events:
        bus.publish(event)
    return [event.seq for event in events]


async def test_a_burst_cuts_nobody(house: House) -> None:
    task_id = await house.submit()
    await house.pipeline.stage(task_id)
    task = await house.instance.service.get(task_id)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(listening(house)) for _ in range(6)]
        for number, client in enumerate(clients):
            await client.send_json({"type": "subscribe", "tasks": "all" if number % 2 else [task_id]})
            await told(client)
        facts = burst(house, task, 2_500)
        for client in clients:
            assert [(await told(client))["seq"] for _ in facts] == facts


async def test_a_burst_beyond_what_is_remembered_begins_anew(house: House) -> None:
    task_id = await house.submit()
    await house.pipeline.stage(task_id)
    task = await house.instance.service.get(task_id)
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": [task_id, UNKNOWN]})
        await told(client)
        facts = burst(house, task, 6_000)
        again = await told(client)
        (last,) = burst(house, task, 1)

        assert (again["type"], again["reset"], again["seq"]) == ("snapshot", True, facts[-1])
        assert ([one["id"] for one in again["tasks"]], again["missing"]) == ([task_id], [UNKNOWN])
        assert (await told(client))["seq"] == last


async def test_a_long_absence_is_made_up_for_at_the_readers_pace(house: House) -> None:
    task_id = await house.submit()
    await house.pipeline.stage(task_id)
    task = await house.instance.service.get(task_id)
    seen = house.instance.hub._bus.last_seq
    facts = burst(house, task, 4_000)
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": "all", "after": seen})
        snapshot = await told(client)
        first = [(await told(client))["seq"] for _ in range(1_500)]
        facts += burst(house, task, 10)  # beside what it still has to make up for
        rest = [(await told(client))["seq"] for _ in range(2_510)]

    # one that is cut anywhere and comes back with the last number that it saw misses nothing
    assert (snapshot["seq"], snapshot["reset"]) == (seen, False)
    assert first + rest == facts


async def test_a_second_subscription_that_goes_back_repeats_nothing_of_the_first(house: House) -> None:
    one, two = await house.submit(), await house.submit()
    tasks = [await house.instance.service.get((await house.pipeline.stage(each)).run.task_id) for each in (one, two)]
    seen = house.instance.hub._bus.last_seq
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": [one]})
        assert (await told(client))["tasks"][0]["id"] == one
        known = [burst(house, task, 1)[0] for task in (*tasks, *tasks)]
        assert [(await told(client))["seq"] for _ in range(2)] == known[::2]
        await client.send_json({"type": "subscribe", "tasks": [two], "after": seen})
        snapshot, *missed = [await told(client) for _ in range(3)]
        after = [burst(house, task, 1)[0] for task in tasks]
        last = [await told(client) for _ in range(2)]

    assert snapshot["seq"] == seen
    assert [(event["task_id"], event["seq"]) for event in missed] == [(two, known[1]), (two, known[3])]
    assert [event["seq"] for event in last] == after


async def test_all_but_some(house: House) -> None:
    one, two = await house.submit(), await house.submit()
    for each in (one, two):
        await house.pipeline.stage(each)
    service = house.instance.service
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": "all"})
        await told(client)
        await client.send_json({"type": "unsubscribe", "tasks": [one]})
        await client.send_json({"type": "ping"})
        assert (await told(client))["type"] == "pong"
        for each in (one, two):
            await service.set_priority(each, 1)
        assert (await told(client))["task_id"] == two

        await client.send_json({"type": "subscribe", "tasks": [one]})
        assert (await told(client))["tasks"][0]["id"] == one
        await service.set_priority(one, 2)
        assert (await told(client))["task_id"] == one

        await client.send_json({"type": "unsubscribe", "tasks": "all"})
        await client.send_json({"type": "ping"})
        assert (await told(client))["type"] == "pong"
        for each in (one, two):
            await service.set_priority(each, 3)
        await client.send_json({"type": "ping"})
        assert (await told(client))["type"] == "pong"


async def test_tasks_left_out_of_all_are_bounded(house: House) -> None:
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": "all"})
        await told(client)
        for block in ("a", "b"):
            ids = [f"task_{block}{number:031x}" for number in range(600)]
            await client.send_json({"type": "unsubscribe", "tasks": ids})
        assert (await told(client))["code"] == "invalid_request"


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


async def test_the_same_task_twice_is_one(house: House) -> None:
    task_id = await house.submit()
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": [task_id] * 1_500 + [UNKNOWN] * 2})
        snapshot = await told(client)

        assert ([task["id"] for task in snapshot["tasks"]], snapshot["missing"]) == ([task_id], [UNKNOWN])


async def test_limits_are_what_is_written(house: House) -> None:
    ids = [f"task_{number:032x}" for number in range(1_001)]
    async with listening(house) as client:
        await client.send_json({"type": "subscribe", "tasks": ids[:1_000]})
        assert len((await told(client))["missing"]) == 1_000
        await client.send_json({"type": "subscribe", "tasks": ids[1_000:]})
        assert (await told(client))["type"] == "error"
        await client.send_json({"type": "unsubscribe", "tasks": ids[:1]})
        await client.send_json({"type": "subscribe", "tasks": ids[1_000:]})
        assert (await told(client))["missing"] == ids[1_000:]
        await client.send_str('{"type": "ping"}'.ljust(65_536))
        assert (await told(client))["type"] == "pong"
        await client.send_str('{"type": "ping"}'.ljust(65_537))
        await client.receive()
        assert client.close_code == 1009


async def test_a_crowd_is_given_one_snapshot(house: House) -> None:
    for _ in range(30):
        await house.submit()
    rendered = house.instance.hub._renderer.rendered
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(listening(house)) for _ in range(40)]
        for client in clients:
            await client.send_json({"type": "subscribe", "tasks": "all"})
        snapshots = [await told(client) for client in clients]

    assert all(len(snapshot["tasks"]) == 30 for snapshot in snapshots)
    assert house.instance.hub._renderer.rendered - rendered <= 30


async def test_a_snapshot_holds_what_was_accepted_before_it_was_asked_for(house: House) -> None:
    async with listening(house) as early, listening(house) as late:
        await early.send_json({"type": "subscribe", "tasks": "all"})
        before = await told(early)
        task_id = await house.submit()
        await late.send_json({"type": "subscribe", "tasks": "all"})
        after = await told(late)

    assert ([], [task_id]) == ([task["id"] for task in before["tasks"]], [task["id"] for task in after["tasks"]])
    assert after["seq"] > before["seq"]


async def test_pings_are_answered_between_the_pieces_of_a_large_snapshot_and_not_in_them(house: House) -> None:
    ids = [await bulky(house) for _ in range(3)]
    raw = await RawSocket.open(house, receive=4096)
    try:
        await raw.say({"type": "subscribe", "tasks": ids})
        await raw.some(1)  # it has begun, and waits for us
        await raw.send(PING, b"are you there")
        await raw.say({"type": "ping"})
        _, payload = await raw.frame(begun=1)
        assert len(json.loads(payload)["tasks"]) == 3
        answers = [await raw.frame(), await raw.frame()]
    finally:
        raw.close()

    assert (PONG, b"are you there") in answers
    assert [json.loads(payload)["type"] for opcode, payload in answers if opcode == TEXT] == ["pong"]


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        (b"\x03\xe8", 1000),
        (b"\x03\xe9bye", 1001),
        (b"\x0b\xb8", 3000),
        (b"\x13\x87", 4999),
        (b"", None),
        (b"\x03\xee", 1002),  # 1006 is never sent
        (b"\x13\x88", 1002),  # nor are those from 5000 on
        (b"\x03\xe7", 1002),
        (b"\x03", 1002),
    ],
)
async def test_a_close_is_answered_with_its_code(house: House, sent: bytes, echoed: int | None) -> None:
    raw = await RawSocket.open(house)
    try:
        await raw.send(CLOSE, sent)
        opcode, payload = await raw.frame()
        assert await raw.some() == b"", "the connection ends after it"
    finally:
        raw.close()

    assert (opcode, int.from_bytes(payload) if payload else None) == (CLOSE, echoed)


@pytest.mark.parametrize("mask", [False, True])
async def test_frames_that_are_not_masked_are_refused(house: House, mask: bool) -> None:
    raw = await RawSocket.open(house)
    try:
        await raw.send(TEXT, b'{"type": "ping"}')
        assert json.loads((await raw.frame())[1])["type"] == "pong"
        await raw.send(TEXT, b'{"type": "ping"}', mask=mask)
        opcode, payload = await raw.frame()
    finally:
        raw.close()

    assert (opcode, payload[:2]) == ((TEXT, b'{"') if mask else (CLOSE, (1002).to_bytes(2)))


async def test_a_websocket_is_not_opened_with_http_1_0(house: House) -> None:
    with pytest.raises(AssertionError, match=r"HTTP/1\.0 400"):
        await RawSocket.open(house, version="1.0")


async def test_a_subscription_that_goes_back_waits_for_the_snapshot_that_is_under_way(house: House) -> None:
    seen = house.instance.hub._bus.last_seq
    ids = [await bulky(house) for _ in range(3)]
    raw = await RawSocket.open(house, receive=4096)
    try:
        await raw.say({"type": "subscribe", "tasks": [UNKNOWN]})
        await raw.frame()
        await raw.say({"type": "subscribe", "tasks": ids})
        await raw.some(1)
        await raw.say({"type": "subscribe", "tasks": ids[:1], "after": seen})
        await house.instance.service.set_priority(ids[1], 7)
        first = json.loads((await raw.frame(begun=1))[1])
        second = json.loads((await raw.frame())[1])
        told = [json.loads((await raw.frame())[1]) for _ in range(6)]
    finally:
        raw.close()

    assert [task["id"] for task in first["tasks"]] == ids
    assert ([task["id"] for task in second["tasks"]], second["seq"]) == (ids[:1], seen)
    statuses = [event["task"]["status"] for event in told if event["task_id"] == ids[0]]
    assert statuses == ["queued", "running", "failed", "queued", "running"]
    assert [event["task"]["priority"] for event in told if event["task_id"] == ids[1]][-1] == 7
