"""Two owners through every route: what the other one has is answered as what does not exist."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mediagen.web.api.routing import Declaration, declarations
from tests.web.conftest import House, Start
from tests.web.middleware.test_errors import OWNERS

ADMIN = "a-key-of-the-configuration"
NOBODYS = {"task": "task_" + "0" * 32, "file": "file_" + "0" * 32, "delivery": "evt_" + "0" * 32}
NOWHERE = "http://127.0.0.1:9/"

FOLDERS = {"task": "/v1/tasks/", "file": "/v1/files/", "delivery": "/v1/webhooks/deliveries/"}


def with_an_id() -> Iterator[Declaration]:
    """Every route that names a task, a file or a delivery."""
    for owner in OWNERS:
        for _, declared in declarations(owner):
            if "{id}" in declared.path and not declared.public and not declared.path.startswith("/v1/keys"):
                yield declared


@dataclass(frozen=True)
class Owner:
    """Somebody with a key, a task that waits and a file."""

    headers: dict[str, str]
    task: str
    file: str


async def owner(house: House, name: str) -> Owner:
    admin = {"Authorization": f"Bearer {ADMIN}"}
    _, key, _ = await house.ask("POST", "/v1/keys", json={"name": name}, headers=admin)
    headers = {"Authorization": f"Bearer {key['key']}"}
    _, task, _ = await house.ask("POST", "/v1/ingest", json={"url": f"http://example.com/{name}"}, headers=headers)
    _, file, _ = await house.ask("POST", "/v1/files", data=f"of {name}".encode(), headers=headers)
    return Owner(headers, task["id"], file["id"])


async def delivery(house: House, one: Owner) -> str:
    """The end of a task of somebody's, which is told to nobody."""
    await house.ask("POST", "/v1/ingest", json={"data": "aGVsbG8=", "webhook_url": NOWHERE}, headers=one.headers)
    _, deliveries, _ = await house.ask("GET", "/v1/webhooks/deliveries", headers=one.headers)
    return str(deliveries["last_id"])


@pytest.fixture
async def closed(start: Start) -> House:
    return await start(auth={"required": True, "admin_key": ADMIN}, fetch={"allow_cidrs": ["127.0.0.1/32"]})


def bodies(declared: Declaration) -> dict[str, Any]:
    if declared.path.endswith("/remix"):
        return {"json": {"prompt": "another"}}
    return {"json": {"priority": 60}} if declared.method == "PATCH" else {}


async def answer(house: House, declared: Declaration, one: str, headers: dict[str, str]) -> tuple[int, str]:
    """Status and body, without what differs by request."""
    method = declared.method.split("|")[0]
    path = declared.path.replace("{id}", one)
    async with house.client.request(method, house.url + path, headers=headers, **bodies(declared)) as answered:
        text = await answered.text()
    request_id = answered.headers["x-request-id"]
    return answered.status, text.replace(one, "ID").replace(request_id, "")


@pytest.mark.parametrize("declared", list(with_an_id()), ids=lambda route: f"{route.method} {route.path}")
async def test_what_another_owner_has_is_unknown(closed: House, declared: Declaration) -> None:
    alice, bob = await owner(closed, "alice"), await owner(closed, "bob")
    kind = next((one for one, folder in FOLDERS.items() if folder in declared.path), "task")
    hers: str = await delivery(closed, alice) if kind == "delivery" else getattr(alice, kind)

    foreign = await answer(closed, declared, hers, bob.headers)
    unknown = await answer(closed, declared, NOBODYS[kind], bob.headers)

    assert foreign == unknown
    assert foreign[0] == 404
    # and it is still there, for her and for an admin
    for headers in (alice.headers, {"Authorization": f"Bearer {ADMIN}"}):
        status, _, _ = await closed.ask("GET", f"{FOLDERS[kind]}{hers}", headers=headers)
        assert status == 200


@pytest.mark.parametrize("kind", ["task", "file"])
async def test_lists_hold_ones_own_and_pages_do_not_tell_of_others(closed: House, kind: str) -> None:
    alice, bob = await owner(closed, "alice"), await owner(closed, "bob")

    async def listed(headers: dict[str, str], query: str = "") -> tuple[int, Any]:
        status, page, _ = await closed.ask("GET", f"/v1/{kind}s{query}", headers=headers)
        return status, [row["id"] for row in page["data"]] if status == 200 else page["code"]

    hers, his = getattr(alice, kind), getattr(bob, kind)
    assert await listed(alice.headers) == (200, [hers])
    assert await listed(bob.headers) == (200, [his])
    assert await listed({"Authorization": f"Bearer {ADMIN}"}) == (200, [his, hers])
    assert await listed(bob.headers, f"?after={hers}") == await listed(bob.headers, f"?after={NOBODYS[kind]}")


@pytest.mark.parametrize("verb", ["cancel", "retry"])
async def test_bulk_calls_do_nothing_to_others(closed: House, verb: str) -> None:
    alice, bob = await owner(closed, "alice"), await owner(closed, "bob")

    _, by_id, _ = await closed.ask(
        "POST", f"/v1/tasks/{verb}", json={"ids": [alice.task, NOBODYS["task"]]}, headers=bob.headers
    )
    _, by_status, _ = await closed.ask("POST", f"/v1/tasks/{verb}", json={"status": "running"}, headers=bob.headers)

    assert [item["error"]["code"] for item in by_id["data"]] == ["not_found", "not_found"]
    assert alice.task not in [item["id"] for item in by_status["data"]]
    _, task, _ = await closed.ask("GET", f"/v1/tasks/{alice.task}", headers=alice.headers)
    assert task["status"] in {"queued", "running"}


async def test_one_idempotency_key_of_two_owners_makes_two_tasks(closed: House) -> None:
    alice, bob = await owner(closed, "alice"), await owner(closed, "bob")

    made = [
        await closed.ask(
            "POST",
            "/v1/ingest",
            json={"url": "http://example.com/same"},
            headers={**one.headers, "Idempotency-Key": "the-same"},
        )
        for one in (alice, bob, alice)
    ]

    ids = [task["id"] for _, task, _ in made]
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize("named", [True, False])
async def test_the_feed_tells_of_ones_own_alone(closed: House, named: bool) -> None:
    alice, bob = await owner(closed, "alice"), await owner(closed, "bob")
    tasks: Any = [alice.task, bob.task] if named else "all"

    async with closed.client.ws_connect(closed.url + "/v1/ws", headers=bob.headers) as socket:
        await socket.send_json({"type": "subscribe", "tasks": tasks, "after": 0})
        snapshot = await socket.receive_json()
        assert [task["id"] for task in snapshot["tasks"]] == [bob.task]
        assert snapshot["missing"] == ([alice.task] if named else [])
        for one in (alice, bob):
            await closed.ask("POST", f"/v1/tasks/{one.task}/cancel", headers=one.headers)
        heard = set()
        async with asyncio.timeout(10):
            while True:
                event = await socket.receive_json()
                heard.add(event["task_id"])
                if event["task"]["status"] == "cancelled":
                    break

    assert heard == {bob.task}


async def test_an_admin_hears_of_everybody(closed: House) -> None:
    async with closed.client.ws_connect(closed.url + "/v1/ws", headers={"Authorization": f"Bearer {ADMIN}"}) as socket:
        await socket.send_json({"type": "subscribe", "tasks": "all"})
        await socket.receive_json()
        alice = await owner(closed, "alice")

        async with asyncio.timeout(10):
            event = await socket.receive_json()

    assert event["task_id"] == alice.task


async def test_keys_of_one_owner_share(closed: House) -> None:
    alice = await owner(closed, "alice")
    _, key, _ = await closed.ask(
        "POST",
        "/v1/keys",
        json={"name": "phone", "owner": "alice"},
        headers={"Authorization": f"Bearer {ADMIN}"},
    )

    status, _, _ = await closed.ask("GET", f"/v1/files/{alice.file}", headers={"Authorization": f"Bearer {key['key']}"})

    assert status == 200
