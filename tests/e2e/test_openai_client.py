"""The unmodified ``openai`` package against the real server: what it sends is taken, what it reads is there."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.infra.process import need
from tests.infra.server import Server
from tests.infra.vendor import Say, VendorServer

pytestmark = [
    pytest.mark.e2e,
    # the package warns that one vendor will stop making films; the interface stays
    pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning"),
]

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def ffmpeg() -> None:
    need("ffmpeg")


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.fixture
async def server(tmp_path: Path, vendor: VendorServer) -> AsyncIterator[Server]:
    paid = {"type": "openai", "engine": "generic", "base_url": f"{vendor.url}/v1", "models": ["m"]}
    settings = {"auth": {"required": True, "admin_key": "sk-of-the-server"}, "providers": {"paid": paid}}
    async with Server(tmp_path, settings) as started:
        yield started


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="sk-of-the-server", timeout=30) as made:
        yield made


async def test_pictures_by_url_and_in_the_answer(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["m", "builtin-poster", "builtin-clip"]

    by_url = await client.images.generate(model="builtin-poster", prompt="A fox", n=3, size="256x256")
    in_text = await client.images.generate(
        model="builtin-poster", prompt="A fox", size="256x256", response_format="b64_json", user=openai.omit
    )

    assert by_url.data is not None
    assert in_text.data is not None
    assert [picture.b64_json for picture in by_url.data] == [None] * 3
    assert all(picture.url for picture in by_url.data)
    assert base64.b64decode(in_text.data[0].b64_json or "").startswith(PNG)
    assert by_url._request_id


async def test_pictures_as_a_stream(client: AsyncOpenAI) -> None:
    stream = await client.images.generate(
        model="builtin-poster", prompt="A fox", size="256x256", stream=True, partial_images=1
    )
    events = [event async for event in stream]

    assert [event.type for event in events] == ["image_generation.completed"]
    assert base64.b64decode(events[0].b64_json).startswith(PNG)


async def test_an_error_in_a_stream_is_raised(client: AsyncOpenAI, vendor: VendorServer) -> None:
    vendor.on("POST", "/v1/images/generations", Say({"error": {"message": "no", "code": "moderation_blocked"}}, 400))
    stream = await client.images.generate(model="m", prompt="A fox", stream=True)

    with pytest.raises(openai.APIError, match="no"):
        _ = [event async for event in stream]


@pytest.mark.usefixtures("ffmpeg")
async def test_a_film_from_its_wish_to_its_bytes(client: AsyncOpenAI) -> None:
    video = await client.videos.create_and_poll(model="builtin-clip", prompt="Waves", seconds="4", size="320x180")  # type: ignore[arg-type]

    assert (video.status, video.progress, video.seconds, video.size) == ("completed", 100, "4", "320x180")
    content = await client.videos.download_content(video.id)
    assert (await content.aread())[4:12] == b"ftypisom"
    thumbnail = await client.videos.download_content(video.id, variant="thumbnail")
    assert (await thumbnail.aread())[8:12] == b"WEBP"
    assert thumbnail.response.headers["content-type"] == "image/webp"
    spritesheet = await client.videos.download_content(video.id, variant="spritesheet")
    assert (await spritesheet.aread())[:3] == b"\xff\xd8\xff"
    assert (await client.videos.retrieve(video.id)).completed_at is not None
    deleted = await client.videos.delete(video.id)
    assert (deleted.deleted, deleted.object) == (True, "video.deleted")
    with pytest.raises(openai.NotFoundError):
        await client.videos.retrieve(video.id)


@pytest.mark.usefixtures("ffmpeg")
async def test_pages_and_what_is_not_ready(client: AsyncOpenAI) -> None:
    made = [
        (await client.videos.create(model="builtin-clip", prompt=f"Waves {number}", seconds="12")).id
        for number in range(3)
    ]
    assert [video.id async for video in client.videos.list(limit=2, order="asc")] == made
    with pytest.raises(openai.NotFoundError):
        await client.videos.download_content(made[-1])
    for video_id in made:
        await client.videos.delete(video_id)


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"model": "dall-e-9"}, openai.BadRequestError, "model"),
        ({"size": "7x"}, openai.BadRequestError, "size"),
        ({"extra_body": {"frobs": 1}}, openai.BadRequestError, "frobs"),
    ],
)
async def test_a_wrong_wish_names_its_field(
    client: AsyncOpenAI, fields: dict[str, Any], error: type[openai.APIStatusError], param: str
) -> None:
    with pytest.raises(error) as refused:
        await client.images.generate(prompt="A fox", **{"model": "builtin-poster", **fields})

    assert (refused.value.param, refused.value.code) == (param, "invalid_request")
    assert refused.value.request_id


async def test_a_wrong_key_is_said(server: Server) -> None:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="sk-wrong") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()


@pytest.mark.parametrize(
    ("say", "error", "calls"),
    [
        (Say({"error": {"message": "slow"}}, 429, {"Retry-After": "0"}), openai.RateLimitError, 3),
        (Say(lost=True), openai.InternalServerError, 1),
        (Say({"error": {"message": "no", "code": "content_policy_violation"}}, 400), openai.BadRequestError, 1),
    ],
)
async def test_what_may_be_repeated_is_and_what_may_not_is_not(
    client: AsyncOpenAI, vendor: VendorServer, say: Say, error: type[Exception], calls: int
) -> None:
    vendor.on("POST", "/v1/images/generations", say)

    with pytest.raises(error):
        await client.images.generate(model="m", prompt="A fox")

    assert len(vendor.calls("POST")) == calls


async def test_an_answer_that_was_lost_is_paid_once(client: AsyncOpenAI, vendor: VendorServer) -> None:
    answer = {"created": 1, "data": [{"b64_json": base64.b64encode(PNG + bytes(100)).decode()}]}
    vendor.on("POST", "/v1/images/generations", Say(answer))
    first = await client.images.generate(model="m", prompt="A fox")
    again = await client.images.generate(model="m", prompt="A fox", extra_headers={"x-stainless-retry-count": "1"})

    assert first.model_extra is not None
    assert again.model_extra is not None
    assert first.model_extra["task_id"] == again.model_extra["task_id"]
    assert len(vendor.calls("POST")) == 1
