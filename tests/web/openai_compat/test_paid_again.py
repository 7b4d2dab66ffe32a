"""Another attempt at a film that the vendor has made: it is fetched, not made and paid again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from mediagen.tasks.service import REPEAT_SECONDS
from tests.infra.servers.vendor import Say, VendorServer
from tests.web.conftest import House, Start

FILM = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(20_000)
PATH = "/v1/videos"


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as server:
        server.on("POST", PATH, Say({"id": "v1", "status": "queued"}), Say({"id": "v2", "status": "queued"}))
        for name in ("v1", "v2"):
            server.on("GET", f"{PATH}/{name}", Say({"id": name, "status": "completed"}))
            server.on("GET", f"{PATH}/{name}/content", Say(FILM, media_type="video/mp4"))
        yield server


@pytest.fixture
async def house(start: Start, vendor: VendorServer) -> House:
    account = {
        "type": "openai",
        "engine": "generic",
        "base_url": f"{vendor.url}/v1",
        "models": ["m"],
        "unsettled_seconds": 0.1,
    }
    return await start(real=True, fetch={"attempts": 1}, providers={"paid": account})


async def failed(house: House) -> dict[str, Any]:
    _, film, _ = await house.ask("POST", PATH, json={"model": "m", "prompt": "Waves"})
    task = await house.ended(film["task_id"])
    assert task["status"] == "failed", task
    return task


async def again(house: House, task_id: str, **edits: Any) -> dict[str, Any]:
    status, task, _ = await house.ask("POST", f"/v1/tasks/{task_id}/retry", json=edits)
    assert status == 200, task
    return await house.ended(task_id)


async def test_a_film_that_could_not_be_fetched_is_fetched_by_the_next_attempt(
    house: House, vendor: VendorServer
) -> None:
    busy = Say("busy", 503)  # an attempt asks twice, by range and for the whole
    vendor.on("GET", f"{PATH}/v1/content", busy, busy, Say(FILM, media_type="video/mp4"))
    task = await failed(house)
    assert (task["error"]["code"], task["error"]["retryable"]) == ("fetch_failed", True)

    task = await again(house, task["id"])

    assert (task["status"], task["attempt"], task["result"]["operation"]) == ("completed", 2, "v1")
    assert len(vendor.calls("POST", PATH)) == 1


async def test_it_may_fail_again_and_is_still_paid_once(house: House, vendor: VendorServer) -> None:
    busy = Say("busy", 503)
    vendor.on("GET", f"{PATH}/v1/content", *[busy] * 4, Say(FILM, media_type="video/mp4"))
    task = await failed(house)
    assert (await again(house, task["id"]))["status"] == "failed"
    await asyncio.sleep(REPEAT_SECONDS * 1.5)  # sooner it would be the same click

    assert (await again(house, task["id"]))["status"] == "completed"
    assert len(vendor.calls("POST", PATH)) == 1


@pytest.mark.parametrize("gone", [404, 410])
async def test_a_film_that_is_gone_is_made_anew(house: House, vendor: VendorServer, gone: int) -> None:
    vendor.on("GET", f"{PATH}/v1/content", Say("gone", gone))
    task = await failed(house)

    task = await again(house, task["id"])

    assert (task["status"], task["result"]["operation"]) == ("completed", "v2")
    assert len(vendor.calls("POST", PATH)) == 2


async def test_another_wish_is_another_film(house: House, vendor: VendorServer) -> None:
    vendor.on("GET", f"{PATH}/v1/content", Say("busy", 503))
    task = await failed(house)

    task = await again(house, task["id"], prompt="Dunes")

    assert (task["status"], task["result"]["operation"]) == ("completed", "v2")
    assert [call.json["prompt"] for call in vendor.calls("POST", PATH)] == ["Waves", "Dunes"]
