"""Text without a UTF-8: refused at every door, and a row that holds some harms nobody who looks."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mediagen.core.errors import ProviderError
from mediagen.core.files import FileKind
from mediagen.pipelines.base import Outcome
from tests.infra.rawclient import RawClient
from tests.infra.servers.receiver import Receiver
from tests.infra.servers.vendor import Say, VendorServer
from tests.web.conftest import House, Start

ADMIN = "a-key-of-the-configuration"
HALF = "\ud800"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.fixture
async def real(start: Start, vendor: VendorServer) -> House:
    account = {"type": "openai", "engine": "generic", "base_url": f"{vendor.url}/v1", "models": ["m"]}
    return await start(real=True, providers={"paid": account}, fetch={"attempts": 1, "allow_cidrs": ["127.0.0.1/32"]})


def as_json(value: Any) -> dict[str, Any]:
    """A body with the halves of surrogate pairs written as escapes."""
    return {"data": json.dumps(value).encode(), "headers": JSON}


async def nothing_entered(house: House) -> None:
    for path in ("/v1/tasks", "/v1/files", "/v1/videos"):
        status, page, _ = await house.ask("GET", path)
        assert (status, page["data"]) == (200, [])


BODIES = [
    ("/v1/ingest", {"url": f"http://example.com/{HALF}"}, "url"),
    ("/v1/ingest", {"url": "http://example.com/", "field": f"/{HALF}"}, "field"),
    ("/v1/ingest", {"url": "http://example.com/", "filename": f"a{HALF}.png"}, "filename"),
    ("/v1/ingest", {"url": "http://example.com/", "webhook_url": f"http://127.0.0.1/{HALF}"}, "webhook_url"),
    ("/v1/ingest", {"data": "QUJD", "filename": f"a{HALF}.png"}, "filename"),
    ("/v1/images/generations", {"prompt": HALF}, "prompt"),
    ("/v1/images/generations", {"prompt": "a", "model": "m", "odd": {"deep": [HALF]}}, "odd.deep.0"),
    ("/v1/images/generations", {"prompt": "a", "metadata": {"k": HALF}}, "metadata.k"),
    ("/v1/images/generations", {"prompt": "a", "metadata": {HALF: "v"}}, "metadata.\ufffd"),
    ("/v1/videos", {"prompt": HALF}, "prompt"),
    ("/v1/videos", {"prompt": "a", "model": "m", f"odd{HALF}": 1}, "odd\ufffd"),
    ("/v1/videos", {"prompt": "a", "metadata": {"k": HALF}}, "metadata.k"),
    ("/v1/videos", {"prompt": "a", "webhook_url": f"http://127.0.0.1/{HALF}"}, "webhook_url"),
    ("/v1/keys", {"name": HALF}, "name"),
    ("/v1/keys", {"name": "a", "owner": HALF}, "owner"),
    ("/v1/tasks/cancel", {"ids": [HALF]}, "ids.0"),
]


@pytest.mark.parametrize(("path", "body", "field"), BODIES)
async def test_json_is_refused(real: House, path: str, body: dict[str, Any], field: str) -> None:
    status, problem, _ = await real.ask("POST", path, **as_json(body))

    assert status == 400, problem
    said = problem.get("error", problem)
    assert "half of a surrogate pair" in json.dumps(problem)
    assert said.get("code") == "invalid_request"
    assert said.get("param") in (None, field)
    await nothing_entered(real)


@pytest.mark.parametrize("kind", ["ingest", "image", "video"])
async def test_a_retry_is_refused_and_the_task_stays_as_it_was(real: House, vendor: VendorServer, kind: str) -> None:
    vendor.on("POST", "/v1/.*", Say({"error": {"message": "no"}}, 400))
    if kind == "ingest":
        _, made, _ = await real.ask("POST", "/v1/ingest", json={"url": "http://127.0.0.1:9/"})
        task_id = made["id"]
    else:
        path = {"image": "/v1/images/generations", "video": "/v1/videos"}[kind]
        await real.ask("POST", path, json={"model": "m", "prompt": "a"})
        _, page, _ = await real.ask("GET", "/v1/tasks")
        task_id = page["data"][0]["id"]
    was = await real.ended(task_id)
    assert was["status"] == "failed"
    edits = {"field": f"/{HALF}"} if kind == "ingest" else {"extra": {"odd": {"x": HALF}}}

    status, problem, _ = await real.ask("POST", f"/v1/tasks/{task_id}/retry", **as_json(edits))

    assert (status, problem["code"]) == (400, "invalid_request")
    _, page, _ = await real.ask("GET", "/v1/tasks")
    assert [(task["attempt"], task["request"]) for task in page["data"]] == [(1, was["request"])]


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (
            b"POST /v1/ingest HTTP/1.1\r\nIdempotency-Key: a\xff\r\nContent-Type: application/json",
            b'{"data": "QUJD"}',
            400,
        ),
        (b"POST /v1/videos HTTP/1.1\r\nIdempotency-Key: \xed\xa0\x80", b'{"prompt": "a", "model": "m"}', 400),
        (b"POST /v1/files HTTP/1.1\r\nIdempotency-Key: a\xff", b"abc", 400),
        (b"POST /v1/files HTTP/1.1\r\nX-Filename: a\xff", b"abc", 400),
        (b"POST /v1/files HTTP/1.1\r\nX-Filename: a%ED%A0%80", b"abc", 400),
        (b"GET /v1/tasks?kind=\xff HTTP/1.1", b"", 400),
        (b"GET /v1/tasks/task_\xff HTTP/1.1", b"", 400),
        (b"GET /v1/files/\xed\xa0\x80 HTTP/1.1", b"", 400),
        (b"DELETE /v1/videos/video_\xff HTTP/1.1", b"", 400),
        (b"GET /v1/webhooks/deliveries/\xff HTTP/1.1", b"", 400),
        (b"GET /nowhere/\xff HTTP/1.1", b"", 400),
    ],
)
async def test_bytes_of_a_head_are_refused(real: House, head: bytes, body: bytes, status: int) -> None:
    def asked() -> tuple[int, bytes]:
        with closing(RawClient(real.instance.port)) as client:
            fields = b"\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
            client.send(head + fields % (real.instance.port, len(body)) + body)
            seen = client.read()
            return seen.status, seen.body

    answered, problem = await asyncio.to_thread(asked)

    assert answered == status, problem
    problem.decode()
    assert b"\\ud" not in problem
    await nothing_entered(real)


async def test_a_field_of_a_form_is_refused(real: House) -> None:
    def form(name: bytes, value: bytes) -> dict[str, Any]:
        head = b'--x\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"
        rest = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nwaves\r\n--x--\r\n'
        return {"data": head + rest, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}

    for name, value in ((b"model", b"\xff"), (b"metadata", b'{"k": "\\ud800"}')):
        status, problem, _ = await real.ask("POST", "/v1/videos", **form(name, value))
        assert status == 400, (name, problem)
    await nothing_entered(real)


async def test_what_a_provider_says_is_repaired(house: House) -> None:
    failing, done = await house.submit(), await house.submit()
    stage = await house.pipeline.stage(failing)
    stage.fail(ProviderError(f"no {HALF}", param=f"a{HALF}"))
    stage = await house.pipeline.stage(done)
    stage.succeed(Outcome({"reported": {HALF: [HALF, 1]}, "revised_prompts": {"0": f"a{HALF}"}}))

    failed, completed = await house.ended(failing), await house.ended(done)

    assert failed["error"]["message"] == "no \ufffd"
    assert completed["result"] == {"reported": {"\ufffd": ["\ufffd", 1]}, "revised_prompts": {"0": "a\ufffd"}}


# -- rows that hold some all the same


@asynccontextmanager
async def feed(house: House, key: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    headers = {"Authorization": f"Bearer {key}"}
    async with house.client.ws_connect(f"{house.url}/v1/ws", headers=headers) as socket:
        await socket.send_json({"type": "subscribe", "tasks": "all"})
        yield socket


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


ROWS = {
    "a half in the request": ("request", '{"url": "http://example.com/\\ud800", "prompt": "\\udfff", "\\ud800": 1}'),
    "a half in the result": ("result", '{"file": "\\ud800", "files": ["\\ud800"], "reported": {"seconds": "\\ud800"}}'),
    "a half in the error": ("error", '{"code": "x\\ud800", "message": "\\ud800", "retryable": true, "attempt": 1}'),
    "a deep request": ("request", deep(400)),
    "a deep result": ("result", deep(400)),
    "another error": ("error", '{"of_another_release": 1}'),
    "odd results": ("result", '{"files": [1, null], "file": {}, "reported": 5, "usage": "x"}'),
    "an odd request": ("request", '{"metadata": [1], "seconds": {}, "prompt": 5, "inputs": 3}'),
    "no object": ("request", "[1]"),
    "no UTF-8": ("owner", b"\xff\xfe"),
}


@pytest.mark.parametrize("row", ROWS)
async def test_one_row_harms_nobody(start: Start, tmp_path: Path, receiver: Receiver, row: str) -> None:
    house = await start(auth={"required": True, "admin_key": ADMIN}, fetch={"allow_cidrs": ["127.0.0.1/32"]})
    admin = {"Authorization": f"Bearer {ADMIN}"}
    _, key, _ = await house.ask("POST", "/v1/keys", json={"name": "anna"}, headers=admin)
    anna = {"Authorization": f"Bearer {key['key']}"}

    async def submitted() -> str:
        body = {"url": "http://example.com/", "webhook_url": receiver.url("/hook")}
        _, task, _ = await house.ask("POST", "/v1/ingest", json=body, headers=anna)
        stage = await house.pipeline.stage(task["id"])
        stored = await house.pipeline.store(
            b"x", task_id=task["id"], media_type="video/mp4", filename="a.mp4", kind=FileKind.VIDEO
        )
        stage.succeed(stored)
        await house.instance.service.wait(task["id"])
        return str(task["id"])

    odd, good = await submitted(), await submitted()
    await receiver.reaches(lambda: len(receiver.events) == 2)
    await house.stop()
    column, value = ROWS[row]
    with sqlite3.connect(tmp_path / "data" / "mediagen.db") as database:
        database.execute("UPDATE tasks SET kind = 'video'")
        value_sql = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
        database.execute(f"UPDATE tasks SET {column} = {value_sql} WHERE id = ?", (value, odd))
        if column != "owner":
            text = json.loads(str(value))
            for delivery, task in database.execute(
                "SELECT id, task FROM deliveries WHERE task_id = ?", (odd,)
            ).fetchall():
                snapshot = {**json.loads(task), column: json.dumps(text)}
                database.execute("UPDATE deliveries SET task = ? WHERE id = ?", (json.dumps(snapshot), delivery))
    database.close()
    house = await start(auth={"required": True, "admin_key": ADMIN}, fetch={"allow_cidrs": ["127.0.0.1/32"]})
    whose = admin if column == "owner" else anna

    for path, ids in (
        ("/v1/tasks", (odd, good)),
        ("/v1/videos", (odd.replace("task", "video"), good.replace("task", "video"))),
    ):
        for headers in (whose, admin):
            status, page, _ = await house.ask("GET", path, headers=headers)
            assert (status, {one["id"] for one in page["data"]}) == (200, set(ids)), page
        for one in ids:
            assert (await house.ask("GET", f"{path}/{one}", headers=whose))[0] == 200
    async with house.client.get(f"{house.url}/v1/tasks/{odd}/events", headers=whose) as events:
        lines = [await events.content.readline() for _ in range(5)]
        assert (events.status, odd.encode() in lines[-1]) == (200, True)
    for key_text in (ADMIN, key["key"]):
        async with feed(house, key_text) as socket:
            assert (await socket.receive_json(timeout=5))["type"] == "snapshot"
            await socket.send_json({"type": "subscribe", "tasks": [odd, good]})
            snapshot = await socket.receive_json(timeout=5)
            if key_text == ADMIN or column != "owner":
                assert {task["id"] for task in snapshot["tasks"]} == {odd, good}
            await socket.send_json({"type": "ping"})
            assert (await socket.receive_json(timeout=5))["type"] == "pong"
    _, page, _ = await house.ask("GET", f"/v1/webhooks/deliveries?task={odd}", headers=admin)
    await house.ask("POST", f"/v1/webhooks/deliveries/{page['data'][0]['id']}/redeliver", headers=admin)
    await receiver.reaches(lambda: len(receiver.events) == 3)
    told = json.loads(receiver.events[-1].body)
    assert told["data"]["id"] == odd
