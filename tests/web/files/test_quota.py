"""``limits.store_bytes`` and ``limits.uploads_at_once`` as callers meet them."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import pytest

from tests.infra.content import content_bytes
from tests.infra.resource import Resource
from tests.infra.servers.source import SourceServer
from tests.web.conftest import House, Start
from tests.web.files.test_uploads import FORM, begun, form, listed, nothing_is_left, part, pieces, upload
from tests.web.middleware.test_rate_limit import _upload
from tests.web.tasks.test_ingest import LOOPBACK

LIMIT = 100_000


@pytest.fixture
async def small(start: Start) -> House:
    return await start(real=True, fetch=LOOPBACK, limits={"store_bytes": LIMIT})


async def base64_upload(house: House, size: int) -> tuple[int, Any, Any]:
    return await house.ask("POST", "/v1/ingest", json={"data": base64.b64encode(bytes(size)).decode()})


@pytest.mark.parametrize("way", ["announced", "unannounced", "form", "base64"])
async def test_a_store_is_full_when_it_holds_what_it_may(small: House, way: str) -> None:
    async def send(size: int) -> tuple[int, Any, Any]:
        match way:
            case "announced":
                return await upload(small, io.BytesIO(bytes(size)))
            case "unannounced":
                return await upload(small, pieces(bytes(size)))
            case "form":
                return await upload(small, form(part(bytes(size))), **FORM)
            case _:
                return await base64_upload(small, size)

    too_much = await send(LIMIT + 1)
    await nothing_is_left(small)
    fits = await send(LIMIT)
    no_more = await send(1)
    for file in await listed(small):
        await small.client.delete(f"{small.url}/v1/files/{file['id']}")
    again = await send(LIMIT)

    for status, problem, _ in (too_much, no_more):
        assert (status, problem["code"], problem["retryable"]) == (507, "storage_full", False)
    assert {fits[0], again[0]} <= {201, 202}


async def test_a_download_fails_when_there_is_no_room(small: House, source: SourceServer) -> None:
    url = source.add("/film", Resource(size=LIMIT + 1))
    small_url = source.add("/short", Resource(size=LIMIT))

    refused = await small.ended(await small.submit(url=url))
    taken = await small.ended(await small.submit(url=small_url))
    full = await small.ended(await small.submit(url=small_url))

    assert [task["status"] for task in (refused, taken, full)] == ["failed", "completed", "failed"]
    assert refused["error"]["code"] == full["error"]["code"] == "storage_full"
    assert len(await listed(small)) == 1


async def test_uploads_together_do_not_go_over(small: House) -> None:
    statuses = [status for status, _, _ in await asyncio.gather(*(upload(small, bytes(30_000)) for _ in range(8)))]

    assert sorted(statuses) == [201] * 3 + [507] * 5
    assert sum(file["bytes"] for file in await listed(small)) == 90_000


async def test_it_is_known_after_a_start(start: Start) -> None:
    house = await start(limits={"store_bytes": LIMIT})
    await upload(house, bytes(LIMIT - 10))
    await house.stop()

    again = await start(limits={"store_bytes": LIMIT})

    assert (await upload(again, bytes(11)))[0] == 507
    assert (await upload(again, bytes(10)))[0] == 201


async def test_a_body_that_does_not_fit_is_not_invited(small: House) -> None:
    head = f"Expect: 100-continue\r\nContent-Length: {LIMIT + 1}"

    seen = await asyncio.to_thread(_upload, small.instance.port, head)

    assert (seen.status, seen.head["connection"]) == (507, "close")
    assert b"100 Continue" not in seen.data


async def test_what_is_stored_is_measured(small: House) -> None:
    await upload(small, bytes(1234))

    async with small.client.get(f"{small.url}/metrics") as answer:
        text = await answer.text()

    assert "\nmediagen_store_bytes 1234.0\n" in text
    assert f"\nmediagen_store_limit_bytes {LIMIT}.0\n" in text
    assert "\nmediagen_store_reserved_bytes 0.0\n" in text


async def test_there_are_so_many_places_for_uploads(start: Start) -> None:
    house = await start(limits={"uploads_at_once": 1})
    _, writer = await begun(house, False)

    seen = await asyncio.to_thread(_upload, house.instance.port, "Expect: 100-continue\r\nContent-Length: 5")
    status, problem, headers = await upload(house, content_bytes(100))

    assert seen.status == 503
    assert b"100 Continue" not in seen.data
    assert (status, problem["code"], problem["retryable"]) == (503, "unavailable", True)
    assert int(headers["Retry-After"]) > 0
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(10):
        while (await upload(house, content_bytes(100)))[0] != 201:
            await asyncio.sleep(0.01)
