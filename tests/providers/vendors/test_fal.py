"""fal's queue, replayed from its documented shapes (2026-11-20)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mediagen.core.errors import ContentRefused, ProviderError
from mediagen.providers.base import ImageRequest, Making, Operation, Phase, Size, VideoRequest
from tests.contracts.provider import PNG, Bench, Fault, VideoRefusals, settled, take
from tests.infra.servers.vendor import Say, VendorServer
from tests.providers.vendor_servers import KEY, an_input, b64, plain_fault, vendor

MODEL = "fal-ai/kling-video/v2/text-to-video"
FAULTS: frozenset[Fault] = frozenset(
    {"key", "rate", "budget", "field", "content", "busy", "gateway", "lost", "html", "empty"}
)


def fault_of(fault: Fault) -> Say:
    match fault:
        case "key":
            return Say({"detail": "Authentication is required to access this application."}, 401)
        case "budget":
            return Say({"detail": "User is locked. Reason: Exhausted balance. Top up your billing."}, 403)
        case "rate":
            return Say({"detail": "Too many requests"}, 429, {"Retry-After": "7"})
        case "field":
            return Say(
                {"detail": [{"loc": ["body", "duration"], "msg": "Input should be '5' or '10'", "type": "enum"}]}, 422
            )
        case "content":
            detail = {"loc": ["body", "prompt"], "msg": "flagged by a checker", "type": "content_policy_violation"}
            return Say({"detail": [detail]}, 422)
        case "busy":
            return Say({"detail": "no runner"}, 503)
        case _:
            return plain_fault(fault)


@pytest.fixture
def api() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.fixture
async def provider(api: VendorServer) -> AsyncIterator[Any]:
    async with vendor(api.url, type="fal", models=(MODEL, "fal-ai/flux/schnell")) as provider:
        yield provider


def accepted(api: VendorServer) -> Say:
    base = f"{api.url}/fal-ai/x/requests/r1"
    return Say(
        {"request_id": "r1", "status_url": f"{base}/status", "response_url": base, "cancel_url": f"{base}/cancel"}, 200
    )


class FalBench(Bench):
    video_model = MODEL

    def __init__(self, provider: Any, api: VendorServer) -> None:
        self.provider = provider
        self.api = api

    def ready_video(self, film: bytes, *, words: list[str] | None = None) -> None:
        self.api.on("POST", f"/{MODEL}", accepted(self.api))
        states = [
            Say({"status": "IN_QUEUE", "queue_position": 2}, 202),
            Say({"status": "IN_PROGRESS", "logs": None}, 202),
            Say({"status": "COMPLETED", "logs": None, "metrics": {"inference_time": 3.2}}),
        ]
        self.api.on("GET", "/fal-ai/x/requests/r1/status", *states)
        video = {"url": f"{self.api.url}/files/o.mp4", "content_type": "video/mp4"}
        self.api.on("GET", "/fal-ai/x/requests/r1", Say({"video": video}))
        self.api.on("GET", "/files/o.mp4", Say(film, media_type="video/mp4"))

    def break_submit(self, fault: Fault) -> None:
        self.api.on("POST", f"/{MODEL}", fault_of(fault))

    @property
    def paid_calls(self) -> int:
        return len(self.api.calls("POST"))


class TestFal(VideoRefusals):
    film_faults = FAULTS - {"cut"}

    @pytest.fixture
    def bench(self, provider: Any, api: VendorServer) -> FalBench:
        return FalBench(provider, api)


async def test_pictures_through_the_queue(api: VendorServer, provider: Any) -> None:
    api.on("POST", "/fal-ai/flux/schnell", accepted(api))
    api.on("GET", ".*/status", Say({"status": "COMPLETED"}))
    images = [{"url": f"{api.url}/files/{number}.png", "width": 4, "height": 4} for number in range(2)]
    api.on("GET", "/fal-ai/x/requests/r1", Say({"images": images, "seed": 9, "has_nsfw_concepts": [False, False]}))
    api.on("GET", "/files/.*", Say(PNG, media_type="image/png"))
    request = ImageRequest(model="fal-ai/flux/schnell", prompt="fox", n=2, size=Size(512, 256), inputs=(an_input(PNG),))

    operation = await provider.submit(request)
    await settled(provider, operation)
    async with provider.fetch(operation) as answer:
        taken = await take(answer)

    assert [each.data for each in taken] == [PNG, PNG]
    assert answer.about.reported["seed"] == 9
    assert api.asked[0].headers["authorization"] == f"Key {KEY}"
    assert api.asked[0].json == {
        "prompt": "fox",
        "num_images": 2,
        "image_size": {"width": 512, "height": 256},
        "image_url": f"data:image/png;base64,{b64(PNG)}",
    }


async def test_all_blacked_out_is_a_refusal(api: VendorServer, provider: Any) -> None:
    api.on("GET", ".*/requests/r1", Say({"images": [{"url": f"{api.url}/files/0.png"}], "has_nsfw_concepts": [True]}))
    api.on("GET", "/files/.*", Say(PNG, media_type="image/png"))

    with pytest.raises(ContentRefused):
        async with provider.fetch(Operation("vendor", "fal-ai/flux/schnell", Making.IMAGE, "r1")) as answer:
            await take(answer)


async def test_the_queue_tells_ones_place(api: VendorServer, provider: Any) -> None:
    FalBench(provider, api).ready_video(b"")
    operation = await provider.submit(VideoRequest(model=MODEL, prompt="fox", seconds=5, size=Size(1920, 1080)))

    status = await provider.poll(operation)

    assert (status.phase, status.queue_position) == (Phase.QUEUED, 2)
    assert api.asked[0].json == {"prompt": "fox", "duration": "5", "aspect_ratio": "16:9"}


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"error": "The runner timed out", "error_type": "request_timeout"}, ProviderError),
        ({"error": "flagged", "error_type": "content_policy_violation"}, ContentRefused),
    ],
)
async def test_completed_with_an_error_has_failed(
    api: VendorServer, provider: Any, more: dict[str, str], error: type[Exception]
) -> None:
    api.on("GET", "/fal-ai/kling-video/requests/r1/status", Say({"status": "COMPLETED", **more}))

    status = await provider.poll(Operation("vendor", MODEL, Making.VIDEO, "r1"))

    assert status.phase is Phase.FAILED
    assert type(status.error) is error


async def test_a_result_that_is_no_success(api: VendorServer, provider: Any) -> None:
    api.on("GET", ".*/requests/r1", fault_of("content"))

    with pytest.raises(ContentRefused):
        async with provider.fetch(Operation("vendor", MODEL, Making.VIDEO, "r1")) as answer:
            await take(answer)


@pytest.mark.parametrize(
    ("say", "stops"),
    [
        (Say({"status": "OK"}), True),
        (Say({"status": "CANCELLATION_REQUESTED"}, 202), False),
        (Say({"status": "ALREADY_COMPLETED"}, 400), True),
    ],
)
async def test_cancel_says_what_it_promises(api: VendorServer, provider: Any, say: Say, stops: bool) -> None:
    api.on("PUT", ".*/requests/r1/cancel", say)

    assert await provider.cancel(Operation("vendor", MODEL, Making.VIDEO, "r1")) is stops


@pytest.mark.parametrize("url", ["https://queue.fal.run/fal-ai/kling-video/requests/r1", "http://[", "x", 7, None])
async def test_behind_a_gateway_the_documented_paths_are_asked(api: VendorServer, provider: Any, url: Any) -> None:
    """What the answer names is fal's own host, or nothing; the key goes nowhere but to ``base_url``."""
    api.on("POST", f"/{MODEL}", Say({"request_id": "r1", "status_url": url, "response_url": url, "cancel_url": url}))
    path = "/fal-ai/kling-video/requests/r1"
    api.on("GET", f"{path}/status", Say({"status": "COMPLETED"}))
    api.on("GET", path, Say({"video": {"url": f"{api.url}/files/o.mp4"}}))
    api.on("PUT", f"{path}/cancel", Say({"status": "ALREADY_COMPLETED"}, 400))

    operation = await provider.submit(VideoRequest(model=MODEL, prompt="fox"))
    status = await provider.poll(operation)
    async with provider.fetch(operation) as answer:
        (made,) = [made async for made in answer]

    assert status.phase is Phase.COMPLETED
    assert made.url == f"{api.url}/files/o.mp4"
    assert await provider.cancel(operation)


async def test_addresses_that_were_saved_of_another_host_get_no_key(api: VendorServer, provider: Any) -> None:
    api.on("GET", "/fal-ai/kling-video/requests/r1/status", Say({"status": "IN_PROGRESS"}))
    operation = Operation("vendor", MODEL, Making.VIDEO, "r1", {"status_url": "https://evil.example/status"})

    assert (await provider.poll(operation)).phase is Phase.RUNNING
