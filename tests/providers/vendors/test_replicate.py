"""Replicate, replayed from its documented shapes (2026-11-20)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mediagen.core.errors import ContentRefused, ProviderError
from mediagen.providers.base import ImageRequest, Making, Operation, Phase, Size, VideoRequest
from tests.contracts.provider import FILM, PNG, Bench, Fault, VideoRefusals, settled, take
from tests.infra.servers.vendor import Say, VendorServer
from tests.providers.vendor_servers import an_input, b64, plain_fault, vendor

MODEL = "minimax/video-01"
FAULTS: frozenset[Fault] = frozenset({"key", "rate", "budget", "field", "busy", "gateway", "lost", "html", "empty"})


def problem(status: int, title: str, detail: str, **headers: str) -> Say:
    """RFC 7807, which is how Replicate says it."""
    return Say({"title": title, "detail": detail, "status": status}, status, headers, "application/problem+json")


def fault_of(fault: Fault) -> Say:
    match fault:
        case "key":
            return problem(401, "Unauthenticated", "You did not pass a valid authentication token")
        case "budget":
            return problem(402, "Insufficient credit", "You have insufficient credit to run this model")
        case "rate":
            return problem(429, "Too many requests", "Request was throttled.", **{"Retry-After": "7"})
        case "field":
            return problem(422, "Input validation failed", "- input.duration: must be one of 5, 10")
        case "busy":
            return problem(500, "Internal server error", "")
        case _:
            return plain_fault(fault)


@pytest.fixture
def api() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.fixture
async def provider(api: VendorServer) -> AsyncIterator[Any]:
    async with vendor(
        f"{api.url}/v1", type="replicate", models=(MODEL, "flux=black-forest-labs/flux-schnell")
    ) as provider:
        yield provider


def prediction(status: str, output: Any = None, **more: Any) -> Say:
    return Say({"id": "p1", "model": MODEL, "status": status, "output": output, "error": None, "logs": "", **more})


class ReplicateBench(Bench):
    video_model = MODEL

    def __init__(self, provider: Any, api: VendorServer) -> None:
        self.provider = provider
        self.api = api

    def ready_video(self, film: bytes, *, words: list[str] | None = None) -> None:
        self.api.on("POST", f"/v1/models/{MODEL}/predictions", prediction("starting"))
        done = prediction("succeeded", f"{self.api.url}/out/film.mp4", metrics={"predict_time": 4.5})
        self.api.on("GET", "/v1/predictions/p1", prediction("starting"), prediction("processing"), done)
        self.api.on("GET", "/out/film.mp4", Say(film, media_type="video/mp4"))

    def break_submit(self, fault: Fault) -> None:
        self.api.on("POST", f"/v1/models/{MODEL}/predictions", fault_of(fault))

    @property
    def paid_calls(self) -> int:
        return len(self.api.calls("POST"))


class TestReplicate(VideoRefusals):
    film_faults = FAULTS - {"cut"}

    @pytest.fixture
    def bench(self, provider: Any, api: VendorServer) -> ReplicateBench:
        return ReplicateBench(provider, api)


async def test_pictures_are_predictions_too(api: VendorServer, provider: Any) -> None:
    api.on("POST", "/v1/models/black-forest-labs/flux-schnell/predictions", prediction("starting"))
    output = [f"{api.url}/out/0.png", f"data:image/png;base64,{b64(PNG + b'1')}"]
    api.on("GET", "/v1/predictions/p1", prediction("succeeded", output))
    api.on("GET", "/out/0.png", Say(PNG + b"0", media_type="image/png"))
    request = ImageRequest(
        model="black-forest-labs/flux-schnell",
        prompt="fox",
        n=2,
        size=Size(1024, 576),
        seed=3,
        output_format="jpeg",
        extra={"go_fast": True},
    )

    operation = await provider.submit(request)
    status = await settled(provider, operation)
    async with provider.fetch(status.operation) as answer:
        taken = await take(answer)

    assert operation.making is Making.IMAGE
    assert [each.data for each in taken] == [PNG + b"0", PNG + b"1"]
    assert api.calls("POST")[0].json == {
        "input": {
            "prompt": "fox",
            "seed": 3,
            "width": 1024,
            "height": 576,
            "aspect_ratio": "16:9",
            "num_outputs": 2,
            "output_format": "jpg",
            "go_fast": True,
        }
    }


@pytest.mark.parametrize(
    ("model", "path", "version"),
    [
        ("a/b", "/v1/models/a/b/predictions", None),
        ("a/b:0123", "/v1/predictions", "0123"),
        ("0123abc", "/v1/predictions", "0123abc"),
        ("deployments/a/b", "/v1/deployments/a/b/predictions", None),
    ],
)
async def test_where_a_model_is_run(
    api: VendorServer, provider: Any, model: str, path: str, version: str | None
) -> None:
    api.on("POST", path, prediction("starting"))

    await provider.submit(
        VideoRequest(model=model, prompt="fox", seconds=5, inputs=(an_input(PNG, role="first_frame"),))
    )

    assert api.asked[0].path == path
    assert api.asked[0].json.get("version") == version
    assert api.asked[0].json["input"]["image"] == f"data:image/png;base64,{b64(PNG)}"
    assert api.asked[0].json["input"]["duration"] == 5


OPERATION = Operation("vendor", MODEL, Making.VIDEO, "p1")


async def test_the_percentage_is_in_the_log(api: VendorServer, provider: Any) -> None:
    api.on("GET", "/v1/predictions/p1", prediction("processing", logs=" 10%|#   | 1/10\n 60%|###### | 6/10"))

    assert (await provider.poll(OPERATION)).percent == 60


@pytest.mark.parametrize(
    ("say", "error"),
    [
        (prediction("failed", error="NSFW content detected. Try a different prompt."), ContentRefused),
        (prediction("failed", error="CUDA out of memory"), ProviderError),
        (prediction("canceled"), ProviderError),
        (prediction("aborted"), ProviderError),
        (prediction("succeeded", None), ProviderError),
        (prediction("succeeded", []), ProviderError),
    ],
)
async def test_ends_without_a_film(api: VendorServer, provider: Any, say: Say, error: type[Exception]) -> None:
    api.on("GET", "/v1/predictions/p1", say)

    status = await provider.poll(OPERATION)

    assert status.phase is Phase.FAILED
    assert type(status.error) is error


async def test_it_can_be_stopped(api: VendorServer, provider: Any) -> None:
    api.on("POST", "/v1/predictions/p1/cancel", prediction("canceled"))

    assert await provider.cancel(OPERATION)


async def test_a_film_that_was_deleted(api: VendorServer, provider: Any) -> None:
    """After an hour."""
    api.on("GET", "/v1/predictions/p1", prediction("succeeded", None, data_removed=True))

    with pytest.raises(ProviderError, match="no longer has the output"):
        async with provider.fetch(OPERATION) as answer:
            await take(answer)
    assert FILM
