"""Webhooks as callers and receivers see them: real server, real receivers on loopback."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from openai import OpenAI

from mediagen.core.errors import FetchFailed
from mediagen.events.webhooks.signing import generate_secret
from mediagen.pipelines.base import Outcome
from tests.infra.resource import Answer
from tests.infra.servers.receiver import Receiver
from tests.web.conftest import House, Start

OPEN = {"allow_cidrs": ["127.0.0.1/32"]}
ADMIN = "a-key-of-the-configuration"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


async def deliveries(house: House, query: str = "", **options: Any) -> list[dict[str, Any]]:
    status, page, _ = await house.ask("GET", f"/v1/webhooks/deliveries{query}", **options)
    assert status == 200, page
    return list(page["data"])


async def delivered(house: House, delivery_id: str, status: str = "delivered", *, tries: int = 1) -> dict[str, Any]:
    """The delivery once it stands there."""
    async with asyncio.timeout(20):
        while True:
            _, delivery, _ = await house.ask("GET", f"/v1/webhooks/deliveries/{delivery_id}")
            if (delivery["status"], delivery["tries"]) == (status, tries):
                return dict(delivery)
            await asyncio.sleep(0.01)


async def measured(house: House, *lines: str) -> None:
    """Wait until the metrics say so: they are counted a moment after the row is written."""
    async with asyncio.timeout(20):
        while True:
            async with house.client.get(f"{house.url}/metrics") as answer:
                said = (await answer.text()).splitlines()
            if set(lines) <= set(said):
                return
            await asyncio.sleep(0.05)


async def test_the_end_of_a_task_is_told_with_the_task(start: Start, receiver: Receiver) -> None:
    house = await start(fetch=OPEN)
    _, rotated, _ = await house.ask("POST", "/v1/webhooks/secret/rotate")
    url = receiver.url("/hook?token=CANARY&a=b")
    task_id = await house.submit(webhook_url=url, filename="a.txt")
    stage = await house.pipeline.stage(task_id)
    stored = await house.pipeline.store(b"hello", task_id=task_id, media_type="text/plain", filename="a.txt")
    stage.succeed(Outcome({**stored.result, "note": "ü"}, stored.files))
    await receiver.reaches(lambda: len(receiver.events) == 1)

    (event,) = receiver.events
    told = standardwebhooks.Webhook(rotated["secret"]).verify(event.body, event.headers)
    client = OpenAI(api_key="none", webhook_secret=rotated["secret"])
    unwrapped: Any = client.webhooks.unwrap(event.body, event.headers)
    client.close()
    task = await house.ended(task_id)
    assert set(told) == {"id", "object", "created_at", "type", "data", "omitted"}
    assert (told["id"], told["object"], told["type"], told["omitted"]) == (event.id, "event", "task.completed", [])
    assert isinstance(told["created_at"], int)
    links = [one["result"]["file"].pop("url") for one in (told["data"], task)]
    for one in (told["data"], task):
        del one["result"]["file"]["url_expires_at"]
    assert told["data"] == task, "what GET /v1/tasks/{id} says, with a link of its own"
    assert task["webhook_url"] == receiver.url("/hook?token=[redacted]&a=b")
    assert (unwrapped.id, str(unwrapped.type), unwrapped.data.id) == (event.id, "task.completed", task_id)
    async with house.client.get(links[0]) as answer:
        assert await answer.read() == b"hello"
    await delivered(house, event.id)
    (listed,) = await deliveries(house, f"?task={task_id}")
    assert task["links"]["deliveries"] == f"/v1/webhooks/deliveries?task={task_id}"
    assert "CANARY" not in json.dumps([listed, task, told])


@pytest.mark.parametrize("how", ["failed", "cancelled", "cancelled while it waits", "timed_out", "done at once"])
async def test_every_way_in_which_a_task_ends(start: Start, receiver: Receiver, how: str) -> None:
    house = await start(fetch=OPEN, tasks={"lanes": {"ingest": 1}})
    url = receiver.url()
    if how == "done at once":
        sent = {"data": b64encode(b"a fox").decode(), "webhook_url": url}
        _, task, _ = await house.ask("POST", "/v1/ingest", json=sent)
        task_id, status = task["id"], "completed"
    else:
        status = how.split()[0]
        if how == "cancelled while it waits":
            await house.pipeline.stage(await house.submit())
        task_id = await house.submit(webhook_url=url, timeout_seconds=0.2 if how == "timed_out" else None)
        if how == "failed":
            (await house.pipeline.stage(task_id)).fail(FetchFailed("no answer"))
        elif status == "cancelled":
            if how == "cancelled":
                await house.pipeline.stage(task_id)
            await house.ask("POST", f"/v1/tasks/{task_id}/cancel")

    await receiver.reaches(lambda: len(receiver.events) == 1)

    told = receiver.events[0].json
    assert (told["type"], told["data"]["id"], told["data"]["status"]) == (f"task.{status}", task_id, status)


async def test_only_the_events_that_were_asked_for(start: Start, receiver: Receiver) -> None:
    house = await start(fetch=OPEN)
    ids = [await house.submit(webhook_url=receiver.url(), webhook_events=["task.failed"]) for _ in range(2)]
    (await house.pipeline.stage(ids[0])).succeed()
    await house.ended(ids[0])
    (await house.pipeline.stage(ids[1])).fail(FetchFailed("no answer"))
    await receiver.reaches(lambda: len(receiver.events) == 1)

    assert receiver.events[0].json["data"]["id"] == ids[1]
    assert len(await deliveries(house)) == 1


async def test_a_retry_is_told_as_well(start: Start, receiver: Receiver) -> None:
    house = await start(fetch=OPEN)
    task_id = await house.submit(webhook_url=receiver.url())
    (await house.pipeline.stage(task_id)).fail(FetchFailed("no answer"))
    await house.ended(task_id)
    await receiver.reaches(lambda: len(receiver.events) == 1)
    await house.ask("POST", f"/v1/tasks/{task_id}/retry")
    (await house.pipeline.stage(task_id, attempt=2)).succeed()
    await receiver.reaches(lambda: len(receiver.events) == 2)

    assert [event.json["type"] for event in receiver.events] == ["task.failed", "task.completed"]
    assert len({event.id for event in receiver.events}) == 2


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"webhook_url": "http://127.0.0.1/"}, "url_not_allowed", "webhook_url"),
        ({"webhook_url": "http://169.254.169.254/latest"}, "url_not_allowed", "webhook_url"),
        ({"webhook_url": "http://localhost:8080/v1/tasks"}, "url_not_allowed", "webhook_url"),
        ({"webhook_url": "http://[::1]/"}, "url_not_allowed", "webhook_url"),
        ({"webhook_url": "ftp://example.com/"}, "url_not_allowed", "webhook_url"),
        ({"webhook_url": "http://a:b@example.com/"}, "url_not_allowed", "webhook_url"),
        ({"webhook_url": "http://"}, "invalid_request", "webhook_url"),
        ({"webhook_url": "http://a@example.com/"}, "url_not_allowed", "webhook_url"),
        ({"webhook_url": "http://:b@[::1/"}, "url_not_allowed", "webhook_url"),
        ({"webhook_url": "http://example.com/" + "x" * 5000}, "invalid_request", "webhook_url"),
        ({"webhook_url": "http://example.com/", "webhook_events": []}, "invalid_request", "webhook_events"),
        ({"webhook_url": "http://example.com/", "webhook_events": ["x"]}, "invalid_request", "webhook_events.0"),
        ({"webhook_events": ["task.failed"]}, "invalid_request", "webhook_events"),
    ],
)
@pytest.mark.parametrize("source", [{"url": "http://example.com/a"}, {"data": "aGVsbG8="}])
async def test_a_webhook_that_cannot_be_is_refused_and_nothing_is_made(
    house: House, tmp_path: Path, source: dict[str, Any], fields: dict[str, Any], code: str, field: str
) -> None:
    status, problem, _ = await house.ask("POST", "/v1/ingest", json=source | fields)

    assert (status, problem["code"]) == (400, code)
    assert field in problem["detail"]
    _, tasks, _ = await house.ask("GET", "/v1/tasks")
    assert tasks["data"] == []
    assert [path for path in (tmp_path / "data" / "media").rglob("*") if path.is_file()] == []


async def test_the_same_idempotency_key_with_another_webhook_is_another_request(start: Start) -> None:
    house = await start(fetch=OPEN)
    headers = {"Idempotency-Key": "k"}

    async def asked(**fields: Any) -> tuple[int, Any]:
        sent = {"url": "http://example.com/a", **fields}
        status, task, _ = await house.ask("POST", "/v1/ingest", json=sent, headers=headers)
        return status, task.get("id")

    first = await asked(webhook_url="http://127.0.0.1:9/a")
    assert await asked(webhook_url="http://127.0.0.1:9/a") == first
    assert (await asked(webhook_url="http://127.0.0.1:9/b"))[0] == 422
    assert (await asked())[0] == 422


async def test_attempts_can_be_looked_at_and_a_delivery_sent_again(start: Start, receiver: Receiver) -> None:
    house = await start(fetch=OPEN, webhooks={"schedule_seconds": [0, 0]})
    task_id = await house.submit(webhook_url=receiver.replies(Answer(500), Answer(302)))
    (await house.pipeline.stage(task_id)).succeed()
    await house.ended(task_id)
    (listed,) = await deliveries(house)

    failed = await delivered(house, listed["id"], "failed", tries=2)
    assert [(one["number"], one["status_code"], one["error"]) for one in failed["attempts"]] == [
        (1, 500, "refused"),
        (2, 302, "redirected"),
    ]
    assert all(one["milliseconds"] >= 0 and one["at"] for one in failed["attempts"])
    assert (failed["next_attempt_at"], failed["task_id"]) == (None, task_id)
    assert await deliveries(house, "?status=failed") == [
        listed | {k: failed[k] for k in ("status", "tries")} | {"next_attempt_at": None, "ended_at": failed["ended_at"]}
    ]
    assert await deliveries(house, "?status=waiting") == []

    status, answer, _ = await house.ask("POST", f"/v1/webhooks/deliveries/{listed['id']}/redeliver")

    assert (status, answer["id"]) == (202, listed["id"])
    await delivered(house, listed["id"], tries=3)
    assert {event.id for event in receiver.events} == {listed["id"]}
    assert len(receiver.events) == 3
    await measured(
        house,
        'mediagen_webhook_attempts_total{outcome="retried"} 1.0',
        'mediagen_webhook_attempts_total{outcome="failed"} 1.0',
        'mediagen_webhook_attempts_total{outcome="delivered"} 1.0',
        "mediagen_webhooks_waiting 0.0",
    )


async def test_owners_do_not_see_each_others_deliveries(start: Start, receiver: Receiver) -> None:
    house = await start(fetch=OPEN, auth={"required": True, "admin_key": ADMIN})
    admin = {"Authorization": f"Bearer {ADMIN}"}
    keys = {}
    for name in ("alice", "bob"):
        _, key, _ = await house.ask("POST", "/v1/keys", json={"name": name}, headers=admin)
        keys[name] = {"Authorization": f"Bearer {key['key']}"}
    sent = {"data": "aGVsbG8=", "webhook_url": receiver.url()}
    await house.ask("POST", "/v1/ingest", json=sent, headers=keys["alice"])
    await receiver.reaches(lambda: len(receiver.events) == 1)
    delivery_id = receiver.events[0].id

    assert await deliveries(house, headers=keys["bob"]) == []
    assert [one["id"] for one in await deliveries(house, headers=keys["alice"])] == [delivery_id]
    assert [one["id"] for one in await deliveries(house, headers=admin)] == [delivery_id]
    unknown = "evt_" + "0" * 32
    for method, path in (("GET", ""), ("POST", "/redeliver")):
        for one in (delivery_id, unknown):
            status, problem, _ = await house.ask(method, f"/v1/webhooks/deliveries/{one}{path}", headers=keys["bob"])
            assert (status, problem["code"]) == (404, "not_found")
    for headers in (keys["alice"], keys["bob"]):
        status, problem, _ = await house.ask("POST", "/v1/webhooks/secret/rotate", headers=headers)
        assert (status, problem["code"]) == (403, "forbidden")
    status, _, _ = await house.ask("GET", f"/v1/webhooks/deliveries?after={delivery_id}", headers=keys["bob"])
    assert status == 400
    assert len(receiver.events) == 1


async def test_a_rotated_secret_signs_beside_the_old_one_until_it_ends(start: Start, receiver: Receiver) -> None:
    house = await start(fetch=OPEN)

    async def told() -> Any:
        number = len(receiver.events)
        sent = {"data": "aGVsbG8=", "webhook_url": receiver.url()}
        await house.ask("POST", "/v1/ingest", json=sent)
        await receiver.reaches(lambda: len(receiver.events) > number)
        return receiver.events[-1]

    _, old, _ = await house.ask("POST", "/v1/webhooks/secret/rotate", json={"overlap_seconds": 0})
    _, new, _ = await house.ask("POST", "/v1/webhooks/secret/rotate", json={"overlap_seconds": 3600})
    assert set(new) == {"object", "secret", "created_at"}
    both = await told()
    for made in (old, new):
        standardwebhooks.Webhook(made["secret"]).verify(both.body, both.headers)

    _, last, _ = await house.ask("POST", "/v1/webhooks/secret/rotate", json={"overlap_seconds": 0})
    alone = await told()
    standardwebhooks.Webhook(last["secret"]).verify(alone.body, alone.headers)
    for made in (old, new):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(made["secret"]).verify(alone.body, alone.headers)


async def test_the_secret_of_the_configuration_signs_and_is_not_rotated_here(start: Start, receiver: Receiver) -> None:
    new, old = generate_secret(), generate_secret()
    house = await start(fetch=OPEN, webhooks={"secret": f"{new} {old}"})
    await house.ask("POST", "/v1/ingest", json={"data": "aGVsbG8=", "webhook_url": receiver.url()})
    await receiver.reaches(lambda: len(receiver.events) == 1)

    for secret in (new, old):
        standardwebhooks.Webhook(secret).verify(receiver.events[0].body, receiver.events[0].headers)
    status, problem, _ = await house.ask("POST", "/v1/webhooks/secret/rotate")
    assert (status, problem["code"]) == (409, "conflict")
    assert new not in json.dumps(problem)


async def test_links_are_those_of_the_public_url_when_there_is_one(start: Start, receiver: Receiver) -> None:
    house = await start(fetch=OPEN, server={"public_url": "https://media.example.org", "allowed_hosts": ["127.0.0.1"]})
    await house.ask("POST", "/v1/ingest", json={"data": "aGVsbG8=", "webhook_url": receiver.url()})
    await receiver.reaches(lambda: len(receiver.events) == 1)

    assert receiver.events[0].json["data"]["result"]["file"]["url"].startswith("https://media.example.org/")


@pytest.mark.parametrize("said", [None, ["video.completed", "video.failed"], ["task.completed", "task.cancelled"]])
async def test_the_end_of_a_film_is_told_in_openais_words(
    start: Start, receiver: Receiver, said: list[str] | None
) -> None:
    house = await start(real=True, fetch=OPEN)
    _, rotated, _ = await house.ask("POST", "/v1/webhooks/secret/rotate", json={"overlap_seconds": 0})
    asked = {"prompt": "Waves", "seconds": "30", "webhook_url": receiver.url(), "metadata": {"order": "7"}}
    _, film, _ = await house.ask("POST", "/v1/videos", json=asked if said is None else asked | {"webhook_events": said})
    _, ended, _ = await house.ask("POST", f"/v1/videos/{film['id']}/cancel")
    await receiver.reaches(lambda: len(receiver.events) == 1)

    (event,) = receiver.events
    client = OpenAI(api_key="k", base_url=f"{house.url}/v1", webhook_secret=rotated["secret"])
    told: Any = client.webhooks.unwrap(event.body, event.headers)
    if said is not None and said[0].startswith("task."):
        assert (told.type, event.json["data"]["id"]) == ("task.cancelled", film["task_id"])
        return
    assert (told.type, told.data.id, event.json["object"]) == ("video.failed", film["id"], "event")
    assert event.json["data"]["error"] == ended["error"]
    assert (event.json["data"]["task_status"], event.json["data"]["metadata"]) == ("cancelled", {"order": "7"})


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("/v1/ingest", ["video.completed"]),
        ("/v1/images/generations", ["video.failed"]),
        ("/v1/videos", ["video.completed", "task.failed"]),
    ],
)
async def test_words_of_films_are_for_films(start: Start, path: str, events: list[str]) -> None:
    house = await start(real=True, fetch=OPEN)
    asked = {"webhook_url": "http://127.0.0.1:9/", "webhook_events": events}
    asked |= {"data": "aGVsbG8="} if path == "/v1/ingest" else {"prompt": "A"}

    status, answer, _ = await house.ask("POST", path, json=asked)

    assert status == 400
    assert "video.*" in json.dumps(answer)
    assert (await house.ask("GET", "/v1/tasks"))[1]["data"] == []
