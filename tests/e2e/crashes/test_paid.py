"""Paid work over crashes: a provider is never asked twice for one attempt of one task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import leavings
from tests.e2e.api import Api
from tests.infra.content import content_bytes
from tests.infra.servers.mediagen import Server
from tests.infra.servers.vendor import Say, VendorServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20
FILM = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + content_bytes(3 * MIB)
SUBMIT = "/v1/videos"


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


def settings(vendor: VendorServer) -> dict[str, Any]:
    paid = {"type": "openai", "base_url": f"{vendor.url}/v1", "api_key": "sk-test-0123456789", "models": ["sora-2"]}
    return {"providers": {"paid": paid}}


def job(status: str, **more: Any) -> Say:
    return Say({"id": "video_1", "object": "video", "model": "sora-2", "status": status, **more})


def film(vendor: VendorServer, *polls: Say) -> None:
    """The job of a film at the vendor, with these readings of it."""
    vendor.on("POST", SUBMIT, job("queued"))
    vendor.on("GET", f"{SUBMIT}/video_1", *polls)
    vendor.on("GET", f"{SUBMIT}/video_1/content", Say(FILM, media_type="video/mp4"))


async def create(api: Api, **fields: Any) -> Any:
    return await api.call("POST", "/v1/videos", json={"model": "sora-2", "prompt": "waves", **fields})


async def until(api: Api, video_id: str, *statuses: str) -> Any:
    async with asyncio.timeout(40):
        while (video := await api.call("GET", f"/v1/videos/{video_id}"))["status"] not in statuses:
            await asyncio.sleep(0.05)
    return video


async def asked(vendor: VendorServer, method: str, path: str, count: int = 1) -> None:
    async with asyncio.timeout(20):
        while len(vendor.calls(method, path)) < count:
            await asyncio.sleep(0.02)


async def test_killed_while_the_job_runs_it_is_waited_for_again(tmp_path: Path, vendor: VendorServer) -> None:
    film(vendor, job("in_progress", progress=40))
    async with Server(tmp_path, settings(vendor)) as server, Api(server.url) as api:
        video = await create(api)
        await asked(vendor, "GET", f"{SUBMIT}/video_1", 2)
        assert (await api.call("GET", f"/v1/videos/{video['id']}"))["progress"] == 36
        await server.kill9()
        film(vendor, job("in_progress", progress=90), job("completed", progress=100))

        await server.restart()
        done = await until(api, video["id"], "completed", "failed")

        assert (done["status"], done["progress"], done["error"]) == ("completed", 100, None)
        assert len(vendor.calls("POST", SUBMIT)) == 1
        async with api.session.get(f"/v1/videos/{video['id']}/content") as answer:
            assert (answer.content_type, await answer.read()) == ("video/mp4", FILM)
        leavings.only_here(server, {"id": done["file_id"]})  # type: ignore[typeddict-item]


async def test_killed_before_the_answer_it_is_not_asked_for_again(tmp_path: Path, vendor: VendorServer) -> None:
    vendor.on("POST", SUBMIT, Say(silent=True))
    async with Server(tmp_path, settings(vendor)) as server, Api(server.url) as api:
        video = await create(api)
        await asked(vendor, "POST", SUBMIT)
        await server.kill9()
        film(vendor, job("completed"))

        await server.restart()
        done = await until(api, video["id"], "completed", "failed")

        assert (done["status"], done["error"]["code"]) == ("failed", "outcome_unknown")
        assert len(vendor.calls("POST", SUBMIT)) == 1
        # whoever has looked at the account may say so: that is a new attempt
        again = await api.call("POST", f"/v1/videos/{video['id']}/retry")
        assert again["status"] in {"queued", "in_progress"}
        assert (await until(api, video["id"], "completed", "failed"))["status"] == "completed"
        assert len(vendor.calls("POST", SUBMIT)) == 2


async def test_killed_while_it_waits_after_a_refusal_it_is_asked_for_once_more(
    tmp_path: Path, vendor: VendorServer
) -> None:
    vendor.on("POST", SUBMIT, Say({"error": {"message": "later"}}, 429, {"Retry-After": "100"}))
    async with Server(tmp_path, settings(vendor)) as server, Api(server.url) as api:
        video = await create(api)
        async with asyncio.timeout(20):
            while (await api.call("GET", f"/v1/tasks/{video['task_id']}"))["phase"] != "waiting":
                await asyncio.sleep(0.02)
        await server.kill9()
        film(vendor, job("completed", usage={"cost": 0.5}))

        await server.restart()
        done = await until(api, video["id"], "completed", "failed")

        assert (done["status"], done["usage"], done["cost_usd"]) == ("completed", {"cost": 0.5}, 0.5), done
        assert len(vendor.calls("POST", SUBMIT)) == 2, "the one that was turned away, and the one that is paid"
        leavings.only_here(server, {"id": done["file_id"]})  # type: ignore[typeddict-item]


async def test_a_lost_answer_is_said_and_not_repeated(tmp_path: Path, vendor: VendorServer) -> None:
    vendor.on("POST", SUBMIT, Say(lost=True))
    async with Server(tmp_path, settings(vendor)) as server, Api(server.url) as api:
        video = await create(api)
        done = await until(api, video["id"], "completed", "failed")

        assert done["error"]["code"] == "outcome_unknown"
        assert len(vendor.calls("POST", SUBMIT)) == 1
        leavings.only_here(server)


async def test_stopped_in_order_it_goes_on(tmp_path: Path, vendor: VendorServer) -> None:
    film(vendor, job("in_progress"))
    async with Server(tmp_path, settings(vendor)) as server, Api(server.url) as api:
        video = await create(api)
        await asked(vendor, "GET", f"{SUBMIT}/video_1")
        assert await server.stop() == 0
        film(vendor, job("completed"))

        await server.restart()

        assert (await until(api, video["id"], "completed", "failed"))["status"] == "completed"
        assert len(vendor.calls("POST", SUBMIT)) == 1
        assert vendor.calls("DELETE") == []


async def test_what_fails_at_the_vendor_is_said_in_his_words(tmp_path: Path, vendor: VendorServer) -> None:
    film(vendor, job("failed", error={"code": "moderation_blocked", "message": "not this"}))
    async with Server(tmp_path, settings(vendor)) as server, Api(server.url) as api:
        done = await until(api, (await create(api))["id"], "completed", "failed")

        assert (done["error"]["code"], done["task_status"]) == ("content_refused", "failed")
        assert "not this" in done["error"]["message"]
        leavings.only_here(server)


async def test_one_poll_that_fails_is_no_end(tmp_path: Path, vendor: VendorServer) -> None:
    film(vendor, Say("busy", 503), job("in_progress"), Say(lost=True), job("completed"))
    async with Server(tmp_path, settings(vendor)) as server, Api(server.url) as api:
        done = await until(api, (await create(api))["id"], "completed", "failed")

        assert done["status"] == "completed", done
        assert len(vendor.calls("POST", SUBMIT)) == 1


async def test_an_expired_link_is_fetched_anew(tmp_path: Path, vendor: VendorServer) -> None:
    film(vendor, job("completed"))
    gone, there = Say("gone", 404), Say(FILM, media_type="video/mp4")
    vendor.on("GET", f"{SUBMIT}/video_1/content", gone, there)
    async with Server(tmp_path, settings(vendor)) as server, Api(server.url) as api:
        done = await until(api, (await create(api))["id"], "completed", "failed")

        assert done["status"] == "completed", done
        assert len(vendor.calls("POST", SUBMIT)) == 1
