"""Films over HTTP, as OpenAI's clients send and read them; by the built-in provider."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.infra.process import need
from tests.web.conftest import House, Start

pytestmark = pytest.mark.usefixtures("ffmpeg")

SMALL = {"prompt": "Waves", "seconds": "1", "size": "160x96"}


@pytest.fixture
def ffmpeg() -> None:
    need("ffmpeg")


@pytest.fixture
async def real(start: Start) -> House:
    return await start(real=True)


async def create(house: House, **fields: Any) -> dict[str, Any]:
    status, video, _ = await house.ask("POST", "/v1/videos", json={**SMALL, **fields})
    assert status == 200, video
    return dict(video)


async def done(house: House, video_id: str) -> dict[str, Any]:
    async with asyncio.timeout(40):
        while True:
            _, video, headers = await house.ask("GET", f"/v1/videos/{video_id}")
            if video["status"] in {"completed", "failed"}:
                assert "openai-poll-after-ms" not in headers
                return dict(video)
            assert int(headers["openai-poll-after-ms"]) > 0
            await asyncio.sleep(0.05)


async def test_a_film_is_made_kept_and_deleted(real: House) -> None:
    video = await create(real)
    assert (video["object"], video["status"], video["progress"], video["prompt"]) == ("video", "queued", 0, "Waves")
    assert (video["seconds"], video["size"], video["model"]) == ("1", "160x96", "builtin-clip")

    video = await done(real, video["id"])

    assert (video["status"], video["progress"], video["error"]) == ("completed", 100, None)
    assert video["completed_at"] >= video["created_at"]
    path = f"/v1/videos/{video['id']}"
    async with real.client.get(f"{real.url}{path}/content", headers={"Range": "bytes=4-11"}) as part:
        assert (part.status, part.content_type, await part.read()) == (206, "video/mp4", b"ftypisom")
    async with real.client.get(video["url"]) as shown:
        assert len(await shown.read()) == shown.content_length
    _, listed, _ = await real.ask("GET", "/v1/videos")
    assert [each["id"] for each in listed["data"]] == [listed["last_id"]] == [video["id"]]

    _, deleted, _ = await real.ask("DELETE", path)

    assert deleted == {"id": video["id"], "object": "video.deleted", "deleted": True}
    assert (await real.ask("GET", path))[0] == 404
    assert (await real.ask("GET", "/v1/files"))[1]["data"] == []


@pytest.mark.parametrize("how", ["form", "json", "numbers", "duration"])
async def test_a_request_is_taken_as_clients_send_it(real: House, how: str) -> None:
    if how == "form":
        form = aiohttp.FormData(default_to_multipart=True)
        for name, value in SMALL.items():
            form.add_field(name, value)
        status, video, _ = await real.ask("POST", "/v1/videos", data=form)
    else:
        others: dict[str, dict[str, Any]] = {"json": {"model": None, "user": None}, "numbers": {"seconds": 1}}
        asked: dict[str, Any] = {**SMALL, **others.get(how, {"seconds": None, "duration": 1})}
        status, video, _ = await real.ask("POST", "/v1/videos", json=asked)

    assert status == 200, video
    assert (video["seconds"], video["size"], video["prompt"]) == ("1", "160x96", "Waves")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "sora-9"}, "model"),
        ({"model": "builtin-poster"}, "model"),
        ({"size": "wide"}, "size"),
        ({"seconds": "long"}, "seconds"),
        ({"seconds": "600"}, "seconds"),
        ({"prompt": ""}, "prompt"),
        ({"frobs": "1"}, "frobs"),
        ({"input_reference": {"image_url": "http://example.com/a.png"}}, "input_reference"),
    ],
)
async def test_what_cannot_be_made_is_refused(real: House, fields: Any, param: str) -> None:
    status, answer, _ = await real.ask("POST", "/v1/videos", json={**SMALL, **fields})

    assert (status, answer["error"]["param"]) == (400, param)
    assert (await real.ask("GET", "/v1/tasks"))[1]["data"] == []


async def test_a_form_that_is_none_is_refused(real: House) -> None:
    with_boundary = "multipart/form-data; boundary=b"
    for body, kind in [
        (b"--b\r\n", with_boundary),
        (b"x", "multipart/form-data"),
        (b"[]", "application/json"),
        (b"", "application/json"),
        (
            b'--b\r\nContent-Disposition: form-data; name="prompt"; filename="a"\r\n\r\nx\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ),
    ]:
        status, answer, _ = await real.ask("POST", "/v1/videos", data=body, headers={"Content-Type": kind})
        assert status in {400, 415}, (body, answer)
        assert set(answer) == {"error"}


async def test_a_film_that_is_not_there_yet_is_404(real: House) -> None:
    video = await create(real, seconds="30", size="1280x720")
    status, answer, _ = await real.ask("GET", f"/v1/videos/{video['id']}/content")
    assert (status, answer["error"]["code"]) == (404, "not_found")

    _, cancelled, _ = await real.ask("POST", f"/v1/videos/{video['id']}/cancel")

    assert (cancelled["status"], cancelled["task_status"]) == ("failed", "cancelled")
    assert cancelled["error"]["code"] == "cancelled"
    _, again, _ = await real.ask("POST", f"/v1/videos/{video['id']}/retry")
    assert again["status"] in {"queued", "in_progress"}
    assert (await real.ask("DELETE", f"/v1/videos/{video['id']}"))[1]["deleted"]  # it is cancelled first
    status, answer, _ = await real.ask("GET", f"/v1/videos/{video['id']}")
    assert (status, answer["error"]["message"]) == (404, f"there is no video {video['id']}")


async def test_pages_of_films_follow_each_other(start: Start) -> None:
    house = await start(real=True, tasks={"lanes": {"video": 1}})
    made = [(await create(house, prompt=f"Waves {number}"))["id"] for number in range(3)]
    _, first, _ = await house.ask("GET", "/v1/videos?limit=2&order=asc")
    _, second, _ = await house.ask("GET", f"/v1/videos?limit=2&order=asc&after={first['last_id']}")

    assert [each["id"] for each in first["data"] + second["data"]] == made
    assert (first["has_more"], second["has_more"]) == (True, False)
    for video_id in made:
        await house.ask("DELETE", f"/v1/videos/{video_id}")


async def test_the_built_in_one_has_no_remix(real: House) -> None:
    video = await done(real, (await create(real))["id"])

    status, answer, _ = await real.ask("POST", f"/v1/videos/{video['id']}/remix", json={"prompt": "Dunes"})

    assert (status, answer["error"]["code"]) == (400, "invalid_request")
