"""Paths of earlier clients: the commands that they used, as they stand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.infra.process import need
from tests.web.conftest import House, Start


@pytest.fixture
def ffmpeg() -> None:
    need("ffmpeg")


@pytest.fixture
async def real(start: Start) -> House:
    return await start(real=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "A fox", "responseFormat": "b64_json", "outputFormat": "webp", "size": "128x96"},
        {"prompt": "A fox", "response_format": "b64_json", "output_format": "webp", "size": "128x96"},
    ],
)
async def test_pictures_in_either_spelling(real: House, fields: dict[str, Any]) -> None:
    status, answer, _ = await real.ask("POST", "/api/images/generate", json=fields)

    assert status == 200, answer
    assert answer["output_format"] == "webp"
    assert answer["data"][0]["b64_json"].startswith("UklGR")  # RIFF


async def test_a_field_in_both_spellings_is_refused(real: House) -> None:
    fields = {"prompt": "A fox", "outputFormat": "webp", "output_format": "png"}
    status, problem, _ = await real.ask("POST", "/api/images/generate", json=fields)

    assert (status, problem["code"]) == (400, "invalid_request")
    assert "output_format" in problem["detail"]


@pytest.mark.usefixtures("ffmpeg")
@pytest.mark.parametrize("path", ["/v1/videos/generations/async", "/api/videos/generate"])
async def test_a_film_from_its_wish_to_its_link(real: House, path: str) -> None:
    fields = {"prompt": "Waves", "duration": 1, "size": "160x96", "n": 1, "responseFormat": "url"}
    status, begun, headers = await real.ask("POST", path, json=fields)
    assert (status, begun["status"]) == (202, "pending")
    assert begun["check_status_url"] == real.url + headers["Location"]

    at = {"/v1/videos/generations/async": headers["Location"]}.get(path, f"/api/videos/tasks/{begun['task_id']}")
    async with asyncio.timeout(40):
        while (task := (await real.ask("GET", at))[1])["status"] in {"pending", "processing"}:
            await asyncio.sleep(0.05)

    assert (task["status"], task["progress"], task["error"]) == ("completed", 100, None)
    (film,) = task["video_response"]["data"]
    async with real.client.get(film["url"]) as shown:
        assert len(await shown.read()) == film["metadata"]["file_size_bytes"]
    assert film["metadata"]["mime_type"] == "video/mp4"


@pytest.mark.usefixtures("ffmpeg")
async def test_a_job_is_cancelled_and_tried_again(real: House) -> None:
    fields = {"prompt": "Waves", "duration": 30, "size": "1280x720"}
    _, begun, _ = await real.ask("POST", "/v1/videos/generations/async", json=fields)
    path = f"/v1/videos/generations/tasks/{begun['task_id']}"

    async with real.client.delete(f"{real.url}/v1/videos/generations/{begun['task_id']}") as answer:
        assert answer.status == 204

    assert (await real.ask("GET", path))[1]["status"] == "cancelled"
    assert (await real.ask("POST", f"{path}/retry"))[1]["status"] in {"pending", "processing"}
    await real.ask("DELETE", f"/v1/videos/video_{begun['task_id'].removeprefix('task_')}")


async def test_what_is_wrong_is_said(real: House) -> None:
    for fields in ({"prompt": "Waves", "n": 2}, {"prompt": "Waves", "model": "none"}, {}):
        status, _, _ = await real.ask("POST", "/v1/videos/generations/async", json=fields)
        assert status == 400
    unknown = "task_" + "0" * 32
    assert (await real.ask("GET", f"/v1/videos/generations/tasks/{unknown}"))[0] == 404
    assert (await real.ask("GET", "/v1/tasks"))[1]["data"] == []
