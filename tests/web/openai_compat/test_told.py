"""The answers say what became of the wishes of a request: what was ignored, and what was put in other words."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.servers.vendor import Say, VendorServer
from tests.web.conftest import House, Start

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0" + bytes(40)
FILM = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(20_000)
PART = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(PNG).decode()}}
WISHES = {"size": "1920x1080", "quality": "high", "style": "vivid", "negative_prompt": "blur", "background": "opaque"}
IGNORED = ["quality", "background", "style", "negative_prompt"]
ADAPTED = {"size": {"aspectRatio": "16:9", "imageSize": "2K"}}


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as server:
        server.on("POST", ".*:generateContent", Say({"candidates": [{"content": {"parts": [PART]}}]}))
        server.on("POST", ".*/predictions", Say({"id": "p", "status": "starting"}))
        server.on("GET", ".*/predictions/p", Say({"id": "p", "status": "processing"}))
        server.on("GET", "/film.mp4", Say(FILM, media_type="video/mp4"))
        yield server


@pytest.fixture
async def house(start: Start, vendor: VendorServer) -> House:
    providers = {
        "goo": {"type": "google", "base_url": vendor.url, "models": ["gemini=gemini-x"]},
        "rep": {"type": "replicate", "base_url": vendor.url, "models": ["film=a/film"]},
        "gen": {"type": "openai", "engine": "generic", "base_url": vendor.url, "models": ["m"]},
    }
    return await start(real=True, providers=providers, fetch={"allow_cidrs": ["127.0.0.0/8"]})


@pytest.mark.parametrize("more", [{}, {"response_format": "b64_json"}])
async def test_of_pictures(house: House, more: dict[str, str]) -> None:
    asked = {"model": "gemini", "prompt": "fox", **WISHES, **more}
    status, answer, _ = await house.ask("POST", "/v1/images/generations", json=asked)

    assert status == 200, answer
    assert (answer["ignored"], answer["adapted"]) == (IGNORED, ADAPTED)
    _, task, _ = await house.ask("GET", f"/v1/tasks/{answer['task_id']}")
    assert (task["result"]["ignored"], task["result"]["adapted"]) == (IGNORED, ADAPTED)


async def test_of_pictures_in_a_stream(house: House) -> None:
    asked = {"model": "gemini", "prompt": "fox", **WISHES, "stream": True, "partial_images": 2}
    async with house.client.post(f"{house.url}/v1/images/generations", json=asked) as answer:
        text = await answer.text()

    (event,) = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert (event["ignored"], event["adapted"]) == ([*IGNORED, "partial_images"], ADAPTED)


async def test_nothing_is_said_where_nothing_happened(house: House) -> None:
    for asked in ({"model": "gemini"}, {"model": "builtin-poster", "size": "128x128"}):
        _, answer, _ = await house.ask("POST", "/v1/images/generations", json={"prompt": "fox", **asked})
        assert (answer["ignored"], answer["adapted"]) == ([], {})


async def test_of_films_from_the_first_answer_on(house: House, vendor: VendorServer) -> None:
    asked = {"model": "film", "prompt": "waves", "seconds": "5", "size": "1280x720"}
    status, film, _ = await house.ask("POST", "/v1/videos", json=asked)
    told: tuple[list[str], dict[str, Any]] = [], {"size": {"width": 1280, "height": 720, "aspect_ratio": "16:9"}}

    assert status == 200, film
    assert (film["ignored"], film["adapted"]) == told
    vendor.on("GET", ".*/predictions/p", Say({"id": "p", "status": "succeeded", "output": f"{vendor.url}/film.mp4"}))
    await house.ended(film["task_id"])
    _, film, _ = await house.ask("GET", f"/v1/videos/{film['id']}")
    assert film["status"] == "completed", film
    assert (film["ignored"], film["adapted"]) == told
    _, page, _ = await house.ask("GET", "/v1/videos")
    assert page["data"][0]["adapted"] == told[1]


async def test_half_a_second_is_refused_with_its_field(house: House) -> None:
    asked = {"model": "film", "prompt": "waves", "seconds": 5.5}
    status, answer, _ = await house.ask("POST", "/v1/videos", json=asked)

    assert (status, answer["error"]["param"]) == (400, "seconds")


async def test_a_refusal_names_the_field_of_the_request(house: House, vendor: VendorServer) -> None:
    error = {"message": "Unknown parameter: 'moderation'.", "param": "moderation", "type": "invalid_request_error"}
    vendor.on("POST", "/images/generations", Say({"error": error}, 400))

    status, answer, _ = await house.ask("POST", "/v1/images/generations", json={"model": "m", "prompt": "fox"})

    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "invalid_request", "moderation")


ODD: list[Any] = [{"w": 8}, 1, ["x"], True]


@pytest.mark.parametrize("odd", ODD)
async def test_what_is_reported_of_a_picture_is_text_or_nothing(house: House, vendor: VendorServer, odd: Any) -> None:
    names = ("size", "quality", "background", "output_format")
    document = {**dict.fromkeys(names, odd), "data": [{"b64_json": PART["inlineData"]["data"]}]}
    vendor.on("POST", "/images/generations", Say(document))

    status, answer, _ = await house.ask("POST", "/v1/images/generations", json={"model": "m", "prompt": "fox"})

    assert status == 200, answer
    assert [answer[name] for name in names] == ["1x1", None, None, None]  # the size is read from the picture then
