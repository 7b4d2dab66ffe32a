"""Keys: who comes in, for what, until when; and what becomes of what a key holds open."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from mediagen.web.auth import authenticator as auth
from tests.web.conftest import House, Start

ADMIN = "a-key-of-the-configuration"
MIB = 1 << 20


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def closed(start: Start) -> House:
    """A server that requires keys."""
    return await start(auth={"required": True, "admin_key": ADMIN})


async def made(house: House, name: str, **fields: Any) -> dict[str, Any]:
    """A new key, with its text."""
    status, key, _ = await house.ask("POST", "/v1/keys", json={"name": name, **fields}, headers=bearer(ADMIN))
    assert status == 201, key
    return dict(key)


async def ingest(house: House, key: str) -> str:
    """The id of a task of this key's owner."""
    status, task, _ = await house.ask("POST", "/v1/ingest", json={"url": "http://example.com/a"}, headers=bearer(key))
    assert status in {200, 201, 202}, task
    return str(task["id"])


async def status_with(house: House, key: str, path: str = "/v1/tasks") -> int:
    status, _, _ = await house.ask("GET", path, headers=bearer(key))
    return status


async def test_without_a_key_only_health_and_documents_are_told(closed: House) -> None:
    for path in ("/livez", "/readyz", "/healthz", "/openapi.json", "/docs"):
        async with closed.client.get(closed.url + path) as answer:
            assert answer.status == 200, path
    for method, path in [
        ("GET", "/v1/tasks"),
        ("POST", "/v1/ingest"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files/file_" + "0" * 32),
        ("GET", "/metrics"),
        ("GET", "/v1/providers"),
        ("GET", "/v1/ws"),
        ("GET", "/v1/keys"),
    ]:
        status, problem, headers = await closed.ask(method, path)
        assert (status, problem["code"], headers["WWW-Authenticate"]) == (401, "unauthorized", "Bearer"), path


async def test_a_signed_link_needs_no_key(closed: House) -> None:
    key = (await made(closed, "app"))["key"]
    async with closed.client.post(closed.url + "/v1/files", data=b"a fox", headers=bearer(key)) as answer:
        file = await answer.json()

    async with closed.client.get(file["url"]) as shown:
        assert (shown.status, await shown.read()) == (200, b"a fox")
    async with closed.client.get(file["url"].replace("signature=", "signature=x")) as altered:
        assert altered.status == 403


@pytest.mark.parametrize(
    "header", ["Bearer mg_0123456789abcdef_" + "a" * 43, "Bearer x", "bearer  ", "Basic eDp5", "Bearer é", "mg_", ""]
)
async def test_what_is_no_key_opens_nothing(closed: House, header: str) -> None:
    status, problem, headers = await closed.ask("GET", "/v1/tasks", headers={"Authorization": header})

    assert (status, problem["code"]) == (401, "unauthorized")
    assert headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_key_opens_what_its_scopes_say(closed: House) -> None:
    reader = (await made(closed, "reader", scopes=["read"]))["key"]
    writer = (await made(closed, "writer", scopes=["write"]))["key"]
    monitor = (await made(closed, "monitor", scopes=["metrics"]))["key"]

    async def answers(key: str) -> list[int]:
        calls = [("GET", "/v1/tasks"), ("POST", "/v1/ingest"), ("GET", "/metrics"), ("GET", "/v1/keys")]
        calls.append(("GET", "/v1/providers"))
        found = []
        for method, path in calls:
            async with closed.client.request(method, closed.url + path, headers=bearer(key)) as answer:
                found.append(answer.status)
        return found

    assert await answers(reader) == [200, 403, 403, 403, 403]
    assert await answers(writer) == [403, 400, 403, 403, 403]
    assert await answers(monitor) == [403, 403, 200, 403, 200]
    assert await answers(ADMIN) == [200, 400, 200, 200, 200]
    _, problem, headers = await closed.ask("POST", "/v1/ingest", headers=bearer(reader))
    assert problem["code"] == "forbidden"
    assert headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="write"'


async def test_a_refused_caller_is_not_invited_to_send_its_body(closed: House) -> None:
    port = closed.instance.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n"
    )
    async with asyncio.timeout(10):
        line = await reader.readline()
    writer.close()
    await writer.wait_closed()

    assert line.startswith(b"HTTP/1.1 401 ")


async def test_old_and_new_key_work_until_the_overlap_ends(closed: House) -> None:
    old = await made(closed, "app")
    _, new, _ = await closed.ask(
        "POST", f"/v1/keys/{old['id']}/rotate", json={"overlap_seconds": 1}, headers=bearer(ADMIN)
    )
    assert [await status_with(closed, key["key"]) for key in (old, new)] == [200, 200]

    async with asyncio.timeout(10):
        while await status_with(closed, old["key"]) != 401:
            await asyncio.sleep(0.05)

    assert await status_with(closed, new["key"]) == 200
    _, listed, _ = await closed.ask("GET", "/v1/keys", headers=bearer(ADMIN))
    assert [(key["status"], key["replaced_by"]) for key in listed["data"]] == [
        ("expired", new["id"]),
        ("active", None),
    ]
    status, problem, _ = await closed.ask("POST", f"/v1/keys/{old['id']}/rotate", headers=bearer(ADMIN))
    assert (status, problem["code"]) == (409, "conflict")


async def test_a_rotated_key_sees_what_the_old_one_made(closed: House) -> None:
    old = await made(closed, "app")
    async with closed.client.post(closed.url + "/v1/files", data=b"x", headers=bearer(old["key"])) as answer:
        file = await answer.json()
    _, new, _ = await closed.ask("POST", "/v1/keys/app/rotate", headers=bearer(ADMIN))

    assert await status_with(closed, new["key"], f"/v1/files/{file['id']}") == 200


async def test_revoking_a_name_ends_all_its_keys(closed: House) -> None:
    first = await made(closed, "app")
    _, second, _ = await closed.ask("POST", "/v1/keys/app/rotate", headers=bearer(ADMIN))

    status, listed, _ = await closed.ask("DELETE", "/v1/keys/app", headers=bearer(ADMIN))

    assert (status, [key["status"] for key in listed["data"]]) == (200, ["revoked", "revoked"])
    assert [await status_with(closed, key["key"]) for key in (first, second)] == [401, 401]
    again, _, _ = await closed.ask("DELETE", f"/v1/keys/{first['id']}", headers=bearer(ADMIN))
    assert again == 200
    assert (await closed.ask("DELETE", "/v1/keys/nobody", headers=bearer(ADMIN)))[0] == 404


async def test_a_name_is_in_use_once(closed: House) -> None:
    await made(closed, "app")
    status, problem, _ = await closed.ask("POST", "/v1/keys", json={"name": "app"}, headers=bearer(ADMIN))
    assert (status, problem["code"]) == (409, "conflict")

    await closed.ask("DELETE", "/v1/keys/app", headers=bearer(ADMIN))

    await made(closed, "app")


@pytest.mark.parametrize(
    "body", [{}, {"name": "a/b"}, {"name": ""}, {"name": "a", "scopes": []}, {"name": "a", "scopes": ["root"]}]
)
async def test_a_key_that_cannot_be_is_refused(closed: House, body: Mapping[str, Any]) -> None:
    status, problem, _ = await closed.ask("POST", "/v1/keys", json=body, headers=bearer(ADMIN))

    assert (status, problem["code"]) == (400, "invalid_request")


async def test_a_key_outlives_a_restart_and_its_secret_is_nowhere(start: Start) -> None:
    house = await start(auth={"required": True, "admin_key": ADMIN})
    key = await made(house, "app")
    assert await status_with(house, key["key"]) == 200
    await house.stop()

    house = await start(auth={"required": True, "admin_key": ADMIN})

    assert await status_with(house, key["key"]) == 200
    _, listed, _ = await house.ask("GET", "/v1/keys", headers=bearer(ADMIN))
    assert listed["data"][0]["last_used_at"] is not None
    assert "key" not in listed["data"][0]


async def test_the_operator_of_the_machine_has_a_key_that_ends_with_the_server(start: Start, tmp_path: Path) -> None:
    house = await start(auth={"required": True})
    path = tmp_path / "data" / "operator.json"
    assert stat.S_IMODE((await asyncio.to_thread(path.stat)).st_mode) == 0o600
    saved = json.loads(await asyncio.to_thread(path.read_text))
    assert saved["url"] == house.url
    assert await status_with(house, saved["key"], "/v1/keys") == 200
    await house.stop()
    assert not await asyncio.to_thread(path.exists)

    house = await start(auth={"required": True})

    assert await status_with(house, saved["key"], "/v1/keys") == 401


async def test_guessing_is_slowed_down_but_real_keys_come_in(closed: House, monkeypatch: pytest.MonkeyPatch) -> None:
    key = (await made(closed, "app"))["key"]
    for _ in range(auth.FAILURES_PER_MINUTE):
        assert await status_with(closed, "a-wrong-one") == 401

    status, problem, headers = await closed.ask("GET", "/v1/tasks", headers=bearer("a-wrong-one"))

    assert (status, problem["code"]) == (429, "rate_limited")
    assert int(headers["Retry-After"]) >= 1
    assert await status_with(closed, ADMIN) == 429  # what could be guessed is not looked at any more
    assert await status_with(closed, key) == 200


async def test_a_revoked_key_loses_its_feeds_at_once(closed: House) -> None:
    key = await made(closed, "app")
    async with closed.client.ws_connect(closed.url + "/v1/ws", headers=bearer(key["key"])) as socket:
        await socket.send_json({"type": "subscribe", "tasks": "all"})
        assert (await socket.receive_json())["type"] == "snapshot"
        began = time.monotonic()
        await closed.ask("DELETE", f"/v1/keys/{key['id']}", headers=bearer(ADMIN))

        async with asyncio.timeout(5):
            message = await socket.receive()

        assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED}
        assert socket.close_code == 1008
        assert time.monotonic() - began < 5


async def test_a_revoked_key_loses_its_event_streams_and_uploads(closed: House) -> None:
    key = await made(closed, "app")
    _, task, _ = await closed.ask(
        "POST", "/v1/ingest", json={"url": "http://example.com/a"}, headers=bearer(key["key"])
    )

    async def listen() -> None:
        url = f"{closed.url}/v1/tasks/{task['id']}/events"
        async with closed.client.get(url, headers=bearer(key["key"])) as answer:
            assert answer.status == 200
            begun.set()
            async for _ in answer.content:
                pass

    async def send() -> None:
        async def slowly() -> Any:
            yield b"x" * MIB
            sending.set()
            await asyncio.sleep(60)

        async with closed.client.post(closed.url + "/v1/files", data=slowly(), headers=bearer(key["key"])):
            pass

    async def revoke() -> None:
        await begun.wait()
        await sending.wait()
        await asyncio.sleep(0.1)
        await closed.ask("DELETE", f"/v1/keys/{key['id']}", headers=bearer(ADMIN))

    begun, sending = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(10):
        *ends, _ = await asyncio.gather(listen(), send(), revoke(), return_exceptions=True)
    assert all(isinstance(end, aiohttp.ClientError) for end in ends), ends
    _, page, _ = await closed.ask("GET", "/v1/files", headers=bearer(ADMIN))
    assert page["data"] == []


async def test_a_key_that_expires_loses_its_feed(closed: House) -> None:
    key = await made(closed, "app", expires_in_seconds=1)
    async with closed.client.ws_connect(closed.url + "/v1/ws", headers=bearer(key["key"])) as socket:
        async with asyncio.timeout(6):
            message = await socket.receive()

        assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED}
    assert await status_with(closed, key["key"]) == 401


async def test_a_ticket_opens_one_socket_as_its_owner(closed: House) -> None:
    key = await made(closed, "app")
    status, ticket, _ = await closed.ask("POST", "/v1/ws/tickets", headers=bearer(key["key"]))
    assert (status, ticket["expires_in_seconds"]) == (201, 30)
    url = f"{closed.url}/v1/ws?ticket={ticket['ticket']}"

    async with closed.client.ws_connect(url) as socket:
        await socket.send_json({"type": "ping"})
        assert (await socket.receive_json())["type"] == "pong"

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await closed.client.ws_connect(url)
    assert refused.value.status == 401
    async with closed.client.get(f"{closed.url}/v1/tasks?ticket={ticket['ticket']}") as answer:
        assert answer.status == 401


async def test_a_ticket_opens_the_events_of_one_task_again_and_again(closed: House) -> None:
    """An EventSource comes back to the same URL by itself."""
    key = await made(closed, "app")
    one, two = [await ingest(closed, key["key"]) for _ in range(2)]
    _, ticket, _ = await closed.ask("POST", "/v1/ws/tickets", headers=bearer(key["key"]))

    async def opened(task: str) -> int:
        async with closed.client.get(f"{closed.url}/v1/tasks/{task}/events?ticket={ticket['ticket']}") as answer:
            return answer.status

    assert [await opened(task) for task in (one, one, two, one)] == [200, 200, 401, 200]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await closed.client.ws_connect(f"{closed.url}/v1/ws?ticket={ticket['ticket']}")
    assert refused.value.status == 401
    await closed.ask("DELETE", "/v1/keys/app", headers=bearer(ADMIN))
    assert await opened(one) == 401


async def test_a_ticket_shows_what_its_owner_sees_alone(closed: House) -> None:
    others = await ingest(closed, (await made(closed, "other"))["key"])
    key = await made(closed, "app")
    _, ticket, _ = await closed.ask("POST", "/v1/ws/tickets", headers=bearer(key["key"]))

    async with closed.client.get(f"{closed.url}/v1/tasks/{others}/events?ticket={ticket['ticket']}") as answer:
        assert answer.status == 404


async def test_a_ticket_ends_with_its_key(closed: House) -> None:
    key = await made(closed, "app")
    _, ticket, _ = await closed.ask("POST", "/v1/ws/tickets", headers=bearer(key["key"]))
    await closed.ask("DELETE", "/v1/keys/app", headers=bearer(ADMIN))

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await closed.client.ws_connect(f"{closed.url}/v1/ws?ticket={ticket['ticket']}")
    assert refused.value.status == 401


async def test_where_no_keys_are_required_any_will_do(house: House) -> None:
    assert await status_with(house, "sk-whatever") == 200
