"""MiniMax, both generations, replayed from its documented shapes (2026-11-20)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mediagen.core.errors import (
    ContentRefused,
    InvalidRequest,
    MediagenError,
    OutcomeUnknown,
    ProviderError,
)
from mediagen.providers.base import ImageRequest, Making, Operation, Phase, Size, VideoRequest
from tests.contracts.provider import FILM, PNG, Bench, Fault, ImageRefusals, VideoRefusals, take
from tests.infra.servers.vendor import Say, VendorServer
from tests.providers.vendor_servers import KEY, an_input, b64, plain_fault, vendor

OK = {"status_code": 0, "status_msg": "success"}
CODES: dict[Fault, tuple[int, str]] = {
    "key": (1004, f"login fail: Please carry the API secret key {KEY}"),
    "budget": (1008, "insufficient balance"),
    "field": (2013, "invalid params, duration"),
    "content": (1026, "input new_sensitive"),
    "busy": (1013, "internal error"),
}
FAULTS: frozenset[Fault] = frozenset(
    {"key", "budget", "field", "content", "busy", "gateway", "lost", "html", "cut", "rate"}
)


def refused(code: int, message: str, **more: Any) -> Say:
    return Say({"base_resp": {"status_code": code, "status_msg": message}, **more})


def fault_of(fault: Fault) -> Say:
    return refused(*CODES[fault]) if fault in CODES else plain_fault(fault)


@pytest.fixture
def api() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.fixture
async def provider(api: VendorServer) -> AsyncIterator[Any]:
    async with vendor(api.url, type="minimax") as provider:
        yield provider


class MiniMaxBench(Bench):
    image_model = "image-01"

    def __init__(self, provider: Any, api: VendorServer) -> None:
        self.provider = provider
        self.api = api

    def ready_images(self, pictures: list[bytes]) -> None:
        texts = [b64(picture) for picture in pictures]
        metadata = {"success_count": str(len(texts)), "failed_count": "0"}
        answer = {"id": "1", "data": {"image_base64": texts}, "metadata": metadata, "base_resp": OK}
        self.api.on("POST", "/v1/image_generation", Say(answer, pieces=999))

    def break_images(self, fault: Fault) -> None:
        said = {"data": {"image_base64": [b64(bytes(50_000))]}, "base_resp": OK}
        self.api.on("POST", "/v1/image_generation", Say(said, cut=30_000) if fault == "cut" else fault_of(fault))

    @property
    def paid_calls(self) -> int:
        return len(self.api.calls("POST"))


class FirstGeneration(MiniMaxBench):
    video_model = "MiniMax-Hailuo-2.3"

    def ready_video(self, film: bytes, *, words: list[str] | None = None) -> None:
        self.api.on("POST", "/v1/video_generation", Say({"task_id": "106916112212032", "base_resp": OK}))
        states = [
            Say({"task_id": "1", "status": word, "file_id": "5" if word == "Success" else "", "base_resp": OK})
            for word in words or ["Preparing", "Queueing", "Processing", "Success"]
        ]
        self.api.on("GET", "/v1/query/video_generation", *states)
        file = {"file_id": 5, "bytes": len(film), "filename": "output.mp4", "download_url": f"{self.api.url}/cdn/o.mp4"}
        self.api.on("GET", "/v1/files/retrieve", Say({"file": file, "base_resp": OK}))
        self.api.on("GET", "/cdn/o.mp4", Say(film, media_type="video/mp4"))

    def break_submit(self, fault: Fault) -> None:
        self.api.on("POST", "/v1/video_generation", fault_of(fault))


class SecondGeneration(MiniMaxBench):
    video_model = "MiniMax-H3"

    def ready_video(self, film: bytes, *, words: list[str] | None = None) -> None:
        self.api.on("POST", "/v2/video_generation", Say({"task_id": "9"}))
        states = [
            Say({"task": {"id": "9", "status": word, "content": {"url": f"{self.api.url}/v/{number}.mp4"}}})
            for number, word in enumerate(words or ["queued", "running", "succeeded", "succeeded", "succeeded"])
        ]
        self.api.on("GET", "/v2/query/video_generation/9", *states)
        self.api.on("GET", "/v/.*", Say(film, media_type="video/mp4"))

    def break_submit(self, fault: Fault) -> None:
        self.api.on("POST", "/v2/video_generation", fault_of(fault))


class TestFirstGeneration(VideoRefusals, ImageRefusals):
    image_faults = FAULTS
    film_faults = FAULTS - {"cut"}

    def film_request(self, bench: Bench, **changes: Any) -> VideoRequest:
        return super().film_request(bench, **{"size": Size(1366, 768), **changes})

    @pytest.fixture
    def bench(self, provider: Any, api: VendorServer) -> FirstGeneration:
        return FirstGeneration(provider, api)


class TestSecondGeneration(VideoRefusals):
    film_faults = FAULTS - {"cut"}

    def film_request(self, bench: Bench, **changes: Any) -> VideoRequest:
        return super().film_request(bench, **{"size": Size(1366, 768), **changes})

    @pytest.fixture
    def bench(self, provider: Any, api: VendorServer) -> SecondGeneration:
        return SecondGeneration(provider, api)


async def test_pictures_behind_links(api: VendorServer, provider: Any) -> None:
    data = {"image_urls": [f"{api.url}/i/{number}.jpeg" for number in range(2)]}
    api.on("POST", "/v1/image_generation", Say({"id": "1", "data": data, "base_resp": OK}))
    api.on("GET", "/i/.*", Say(PNG, media_type="image/jpeg"))

    async with provider.generate(
        ImageRequest(model="image-01", prompt="fox", n=2, size=Size(1024, 768), seed=3)
    ) as answer:
        taken = await take(answer)

    assert [(each.index, each.data) for each in taken] == [(0, PNG), (1, PNG)]
    assert api.asked[0].json == {
        "model": "image-01",
        "prompt": "fox",
        "n": 2,
        "response_format": "url",
        "seed": 3,
        "width": 1024,
        "height": 768,
    }


async def test_what_is_sent_for_films(api: VendorServer, provider: Any) -> None:
    api.on("POST", "/v[12]/video_generation", Say({"task_id": "1", "base_resp": OK}))
    frames = (an_input(PNG, role="first_frame"), an_input(PNG + b"2", role="last_frame"))
    for model in ("MiniMax-Hailuo-02", "MiniMax-H3"):
        await provider.submit(VideoRequest(model=model, prompt="fox", seconds=6, size=Size(1366, 768), inputs=frames))
    await provider.submit(VideoRequest(model="MiniMax-H3", prompt="fox"))

    first, second, third = (each.json for each in api.asked)
    uris = [f"data:image/png;base64,{b64(data)}" for data in (PNG, PNG + b"2")]
    assert first == {
        "model": "MiniMax-Hailuo-02",
        "prompt": "fox",
        "duration": 6,
        "resolution": "768P",
        "first_frame_image": uris[0],
        "last_frame_image": uris[1],
    }
    assert second == {
        "model": "MiniMax-H3",
        "content": [
            {"type": "text", "text": "fox"},
            {"type": "image_url", "image_url": {"url": uris[0]}, "role": "first_frame"},
            {"type": "image_url", "image_url": {"url": uris[1]}, "role": "last_frame"},
        ],
        "duration": 6,
        "resolution": "768P",
        "ratio": "16:9",
    }
    assert third["ratio"] == "16:9"


@pytest.mark.parametrize(("size", "seconds", "param"), [(Size(100, 100), 6, "size"), (Size(1366, 768), 6.5, "seconds")])
async def test_what_it_does_not_film_is_said_before_it_is_asked(
    api: VendorServer, provider: Any, size: Size, seconds: float, param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await provider.submit(VideoRequest(model="MiniMax-Hailuo-02", prompt="fox", seconds=seconds, size=size))

    assert refused.value.context["param"] == param
    assert not list(api.asked)


FIRST = Operation("vendor", "MiniMax-Hailuo-02", Making.VIDEO, "1")
SECOND = Operation("vendor", "MiniMax-H3", Making.VIDEO, "1")


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (1027, "output new_sensitive", ContentRefused),
        (1026, "input new_sensitive", ContentRefused),
        (0, "success", ProviderError),
        (1000, "unknown error", ProviderError),
    ],
)
async def test_a_film_that_failed_says_why(
    api: VendorServer, provider: Any, code: int, message: str, error: type[MediagenError]
) -> None:
    api.on("GET", "/v1/query/video_generation", refused(code, message, status="Fail", task_id="1", file_id=""))

    status = await provider.poll(FIRST)

    assert status.phase is Phase.FAILED
    assert type(status.error) is error


@pytest.mark.parametrize("word", ["failed", "cancelled", "expired"])
async def test_every_end_without_a_film_is_a_failure(api: VendorServer, provider: Any, word: str) -> None:
    task = {
        "id": "1",
        "status": word,
        "error": {"code": "x", "message": "content is sensitive"} if word == "failed" else None,
    }
    api.on("GET", "/v2/query/video_generation/1", Say({"task": task}))

    status = await provider.poll(SECOND)

    assert status.phase is Phase.FAILED
    assert isinstance(status.error, ContentRefused) == (word == "failed")


async def test_a_film_that_is_no_longer_known(api: VendorServer, provider: Any) -> None:
    api.on("GET", "/v2/query/video_generation/1", refused(2013, "invalid task_id"))

    with pytest.raises(ProviderError, match="invalid task_id"):
        await provider.poll(SECOND)


async def test_a_time_out_within_is_not_asked_again(api: VendorServer, provider: Any) -> None:
    api.on("POST", "/v1/video_generation", refused(1001, "timeout"))

    with pytest.raises(OutcomeUnknown):
        await provider.submit(VideoRequest(model="MiniMax-Hailuo-02", prompt="fox"))


async def test_rate_limits_come_as_a_code(api: VendorServer, provider: Any) -> None:
    api.on("POST", "/v1/video_generation", refused(1002, "rate limit"))

    with pytest.raises(MediagenError) as limited:
        await provider.submit(VideoRequest(model="MiniMax-Hailuo-02", prompt="fox"))

    assert (limited.value.code, limited.value.retryable) == ("provider_rate_limited", True)


async def test_a_link_that_expired_is_asked_for_anew(api: VendorServer, provider: Any) -> None:
    bench = SecondGeneration(provider, api)
    bench.ready_video(FILM, words=["succeeded", "succeeded", "succeeded"])
    api.on("GET", "/v/1.mp4", Say({}, 403))
    status = await provider.poll(SECOND_9)

    with pytest.raises(MediagenError) as expired:
        async with provider.fetch(status.operation) as answer:
            await take(answer)
    async with provider.fetch(status.operation) as answer:
        (taken,) = await take(answer)

    assert expired.value.context["status"] == 403
    assert taken.data == FILM


SECOND_9 = Operation("vendor", "MiniMax-H3", Making.VIDEO, "9")


async def test_no_cancel(provider: Any) -> None:
    assert await provider.cancel(FIRST) is False
