"""POST /v1/ingest with the real pipeline: URLs, and content that comes in the request."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.infra.content import content_bytes, sha256_of
from tests.infra.resource import Resource
from tests.infra.servers.source import SourceServer
from tests.web.conftest import House, Start

LOOPBACK = {"allow_cidrs": ["127.0.0.0/8"]}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(2_000)


@pytest.fixture
async def real(start: Start) -> House:
    return await start(real=True, fetch=LOOPBACK)


def in_store(house: House) -> list[Path]:
    root = Path(house.instance.storage.path_of("x")).parent  # type: ignore[attr-defined]
    return [path for path in root.rglob("*") if path.is_file()]


async def test_a_url_becomes_a_file(real: House, source: SourceServer) -> None:
    url = source.add("/film.bin", Resource(size=3_000_000, seed=5))

    task = await real.ended(await real.submit(url=url, filename="mine.bin"))

    file = task["result"]["file"]
    assert (task["status"], file["filename"], file["bytes"]) == ("completed", "mine.bin", 3_000_000)
    assert file["sha256"] in {None, sha256_of(3_000_000, 5)}
    async with real.client.get(file["url"]) as answer:
        assert await answer.read() == content_bytes(3_000_000, 5)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/", "http://", "no url", "http://10.0.0.1/"])
async def test_a_url_that_may_not_be_fetched_is_refused_or_fails(real: House, url: str) -> None:
    status, answer, _ = await real.ask("POST", "/v1/ingest", json={"url": url})

    if status == 202:
        answer = (await real.ended(answer["id"]))["error"]
    assert answer["code"] in {"invalid_request", "url_not_allowed"}


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
async def test_content_in_the_request_is_stored_while_it_comes(real: House, prefix: str) -> None:
    body = {"filename": "dot.png", "data": prefix + base64.b64encode(PNG).decode(), "kind": "image"}

    status, task, headers = await real.ask("POST", "/v1/ingest", json=body)

    assert (status, task["status"], task["progress"]) == (202, "completed", 100)
    assert headers["Location"] == task["links"]["self"]
    assert task["request"] == {"filename": "dot.png", "kind": "image", "data": f"[{len(PNG)} bytes]"}
    file = task["result"]["file"]
    assert (file["media_type"], file["filename"], file["task_id"]) == ("image/png", "dot.png", task["id"])
    async with real.client.get(file["url"]) as answer:
        assert await answer.read() == PNG


async def test_content_far_over_the_json_limit_is_taken(start: Start) -> None:
    house = await start(real=True, server={"max_json_bytes": 4096})

    async def body() -> AsyncIterator[bytes]:
        yield b'{"data":"'
        for _ in range(64):
            yield base64.b64encode(bytes(48_000))
        yield b'"}'

    status, task, _ = await house.ask("POST", "/v1/ingest", data=body())
    refused, problem, _ = await house.ask("POST", "/v1/ingest", json={"url": "http://e.com/", "filename": "x" * 5000})

    assert (status, task["result"]["file"]["bytes"]) == (202, 64 * 48_000)
    assert (refused, problem["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"data": "@@@@"}, "invalid_base64"),
        ({"data": base64.b64encode(PNG).decode(), "kind": "video"}, "unsupported_media"),
        ({"data": base64.b64encode(PNG).decode(), "url": "http://example.com/"}, "invalid_request"),
        ({"data": base64.b64encode(PNG).decode(), "surprise": 1}, "invalid_request"),
        ({"data": 5}, "invalid_request"),
        ({}, "invalid_request"),
    ],
)
async def test_a_refused_request_leaves_nothing(real: House, body: dict[str, Any], code: str) -> None:
    status, problem, _ = await real.ask("POST", "/v1/ingest", json=body)

    assert (status, problem["code"]) == (415 if code == "unsupported_media" else 400, code)
    assert in_store(real) == []
    assert (await real.ask("GET", "/v1/tasks"))[1]["data"] == []


async def test_content_over_the_limit_is_refused_and_leaves_nothing(start: Start) -> None:
    house = await start(real=True, limits={"file_bytes": 1000, "image_bytes": 1000})

    status, problem, headers = await house.ask("POST", "/v1/ingest", json={"data": base64.b64encode(PNG).decode()})

    assert (status, problem["code"], headers["Connection"]) == (413, "too_large", "close")
    assert in_store(house) == []


async def test_a_client_that_goes_away_leaves_nothing(real: House) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", real.instance.port)
    text = json.dumps({"data": base64.b64encode(PNG * 6000).decode()}).encode()
    writer.write(b"POST /v1/ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(text))
    writer.write(text[:-1000])
    await writer.drain()
    async with asyncio.timeout(10):
        while not in_store(real):
            await asyncio.sleep(0.01)

    writer.close()
    await writer.wait_closed()

    async with asyncio.timeout(10):
        while in_store(real):
            await asyncio.sleep(0.01)


async def test_another_content_type_is_refused(real: House) -> None:
    status, problem, _ = await real.ask("POST", "/v1/ingest", data=PNG, headers={"Content-Type": "image/png"})

    assert (status, problem["code"]) == (415, "unsupported_media")


async def test_a_repeated_request_makes_one_task_and_one_file(real: House, source: SourceServer) -> None:
    url = source.add("/film.bin", Resource(size=1000))
    content = {"data": base64.b64encode(PNG).decode()}

    by_url = [
        (await real.ask("POST", "/v1/ingest", json={"url": url}, headers={"Idempotency-Key": "a"}))[1]["id"]
        for _ in range(3)
    ]
    by_content = [
        (await real.ask("POST", "/v1/ingest", json=content, headers={"Idempotency-Key": "b"}))[1]["id"]
        for _ in range(3)
    ]
    other, problem, _ = await real.ask("POST", "/v1/ingest", json={"url": f"{url}?x"}, headers={"Idempotency-Key": "a"})
    changed, _, _ = await real.ask(
        "POST", "/v1/ingest", json={**content, "filename": "x"}, headers={"Idempotency-Key": "b"}
    )
    await real.ended(by_url[0])

    assert (len(set(by_url)), len(set(by_content))) == (1, 1)
    assert (other, changed) == (422, 422)
    assert (problem["code"], problem["type"]) == ("idempotency_mismatch", "about:blank")
    assert len(in_store(real)) == 2
