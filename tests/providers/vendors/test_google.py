"""Google's forms, replayed from the documented shapes (2026-11-20)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mediagen.core.errors import ContentRefused, MediagenError, ProviderError
from mediagen.providers.base import ImageRequest, Making, Operation, Phase, Size, VideoRequest
from tests.contracts.provider import FILM, PNG, Bench, Fault, ImageRefusals, VideoRefusals, settled, take
from tests.infra.servers.vendor import Say, VendorServer
from tests.providers.vendor_servers import KEY, an_input, b64, plain_fault, vendor

INTERACTIONS = "interactions:veo-4"
NAME = "models/veo-3.1-generate-preview/operations/abc123"
FAULTS: frozenset[Fault] = frozenset(
    {"key", "rate", "budget", "model", "field", "content", "busy", "gateway", "lost", "html", "empty", "cut"}
)


def google_error(code: int, status: str, message: str, *details: dict[str, Any]) -> Say:
    return Say({"error": {"code": code, "message": message, "status": status, "details": list(details)}}, code)


def fault_of(fault: Fault) -> Say:
    match fault:
        case "key":
            return google_error(403, "PERMISSION_DENIED", f"API key {KEY} not valid")
        case "rate":
            info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
            return google_error(429, "RESOURCE_EXHAUSTED", "Too many requests", info)
        case "budget":
            return google_error(
                403,
                "PERMISSION_DENIED",
                "This API method requires billing to be enabled.",
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "BILLING_DISABLED"},
            )
        case "model":
            return google_error(404, "NOT_FOUND", "models/x is not found for API version v1beta, model not found")
        case "field":
            return google_error(400, "INVALID_ARGUMENT", "Invalid aspect ratio")
        case "content":
            return google_error(400, "INVALID_ARGUMENT", "The prompt violates our Responsible AI practices")
        case "busy":
            return google_error(503, "UNAVAILABLE", "The model is overloaded")
        case _:
            return plain_fault(fault)


@pytest.fixture
def api() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.fixture
async def provider(api: VendorServer) -> AsyncIterator[Any]:
    models = ("gemini-2.5-flash-image", "imagen-4.0-generate-001", "veo-3.1-generate-preview", INTERACTIONS)
    async with vendor(f"{api.url}/v1beta", type="google", models=models) as provider:
        yield provider


def content(*pictures: bytes, **more: Any) -> dict[str, Any]:
    parts = [{"inlineData": {"mimeType": "image/png", "data": b64(picture)}} for picture in pictures]
    return {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "Here"}, *parts]}, "finishReason": "STOP"}],
        **more,
    }


class GoogleBench(Bench):
    image_model = "gemini-2.5-flash-image"
    video_model = "veo-3.1-generate-preview"

    def __init__(self, provider: Any, api: VendorServer) -> None:
        self.provider = provider
        self.api = api

    def ready_images(self, pictures: list[bytes]) -> None:
        self.api.on("POST", r".*:generateContent", Say(content(*pictures), pieces=777))

    def break_images(self, fault: Fault) -> None:
        cut = Say(content(bytes(50_000)), cut=30_000)
        self.api.on("POST", r".*:generateContent", cut if fault == "cut" else fault_of(fault))

    def ready_video(self, film: bytes, *, words: list[str] | None = None) -> None:
        self.api.on("POST", r".*:predictLongRunning", Say({"name": NAME}))
        link = f"{self.api.url}/v1beta/files/f1:download?alt=media"
        done = {
            "name": NAME,
            "done": True,
            "response": {"generateVideoResponse": {"generatedSamples": [{"video": {"uri": link}}]}},
        }
        self.api.on("GET", f"/v1beta/{NAME}", Say({"name": NAME}), Say({"name": NAME, "done": False}), Say(done))
        self.api.on("GET", "/v1beta/files/f1:download", Say(film, media_type="video/mp4"))

    def break_submit(self, fault: Fault) -> None:
        self.api.on("POST", r".*:predictLongRunning", fault_of(fault))

    @property
    def paid_calls(self) -> int:
        return len(self.api.calls("POST"))


class VertexBench(GoogleBench):
    """The film is in the answer, as base64."""

    def ready_video(self, film: bytes, *, words: list[str] | None = None) -> None:
        super().ready_video(film, words=words)
        videos = [{"mimeType": "video/mp4", "bytesBase64Encoded": b64(film)}]
        done = Say({"name": NAME, "done": True, "response": {"videos": videos}}, pieces=501)
        self.api.on("GET", f"/v1beta/{NAME}", Say({"name": NAME}), done)


class InteractionsBench(GoogleBench):
    """With the picture that came in among what is given back."""

    video_model = INTERACTIONS

    def ready_video(self, film: bytes, *, words: list[str] | None = None) -> None:
        self.api.on("POST", "/v1beta/interactions", Say({"id": "int_1", "status": "queued"}))
        given = {"type": "user_input", "content": [{"type": "image", "data": b64(PNG), "mime_type": "image/png"}]}
        made = {"type": "model_output", "content": [{"type": "video", "data": b64(film), "mime_type": "video/mp4"}]}
        done = {"id": "int_1", "status": "completed", "steps": [given, made], "usage": {"total_tokens": 7}}
        self.api.on(
            "GET", "/v1beta/interactions/int_1", Say({"id": "int_1", "status": "in_progress"}), Say(done, pieces=501)
        )

    def break_submit(self, fault: Fault) -> None:
        self.api.on("POST", "/v1beta/interactions", fault_of(fault))


class TestGemini(VideoRefusals, ImageRefusals):
    image_faults = FAULTS
    film_faults = FAULTS - {"cut"}

    def film_request(self, bench: Bench, **changes: Any) -> VideoRequest:
        return super().film_request(bench, **{"size": Size(1280, 720), **changes})

    @pytest.fixture(params=[GoogleBench, VertexBench, InteractionsBench])
    def bench(self, request: pytest.FixtureRequest, provider: Any, api: VendorServer) -> GoogleBench:
        made: GoogleBench = request.param(provider, api)
        return made


async def test_the_key_travels_in_googles_header_also_for_the_file(api: VendorServer, provider: Any) -> None:
    GoogleBench(provider, api).ready_video(FILM)
    operation = await provider.submit(VideoRequest(model="veo-3.1-generate-preview", prompt="fox"))
    await settled(provider, operation)
    async with provider.fetch(operation) as answer:
        await take(answer)

    assert {each.headers.get("x-goog-api-key") for each in api.asked} == {KEY}
    assert {each.headers.get("authorization") for each in api.asked} == {None}


async def test_what_is_sent(api: VendorServer, provider: Any) -> None:
    api.on("POST", ".*", Say({"name": NAME, "id": "int_1", **content(PNG)}))
    frame = an_input(PNG, role="first_frame")
    async with provider.generate(
        ImageRequest(model="gemini-2.5-flash-image", prompt="fox", size=Size(2048, 1152), inputs=(an_input(PNG),))
    ) as answer:
        await take(answer)
    await provider.submit(
        VideoRequest(
            model="veo-3.1-generate-preview",
            prompt="fox",
            seconds=8,
            size=Size(720, 1280),
            inputs=(frame,),
            negative_prompt="x",
        )
    )
    await provider.submit(VideoRequest(model=INTERACTIONS, prompt="fox", seconds=8, size=Size(1920, 1080), seed=4))

    picture, veo, interaction = (each.json for each in api.asked)
    assert picture == {
        "contents": [
            {"role": "user", "parts": [{"text": "fox"}, {"inlineData": {"mimeType": "image/png", "data": b64(PNG)}}]}
        ],
        "generationConfig": {
            "responseModalities": ["TEXT", "IMAGE"],
            "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
        },
    }
    assert veo == {
        "instances": [{"prompt": "fox", "image": {"bytesBase64Encoded": b64(PNG), "mimeType": "image/png"}}],
        "parameters": {"durationSeconds": 8, "aspectRatio": "9:16", "resolution": "720p", "negativePrompt": "x"},
    }
    assert interaction == {
        "model": "veo-4",
        "input": [{"type": "user_input", "content": [{"type": "text", "text": "fox"}]}],
        "background": True,
        "store": True,
        "response_format": {
            "type": "video",
            "aspect_ratio": "16:9",
            "duration": 8,
            "resolution": "1080p",
            "delivery": "uri",
        },
        "generation_config": {"seed": 4},
    }


async def test_imagen_predicts(api: VendorServer, provider: Any) -> None:
    predictions = [{"bytesBase64Encoded": b64(PNG + bytes([n])), "mimeType": "image/png"} for n in range(2)]
    api.on("POST", "/v1beta/models/imagen-4.0-generate-001:predict", Say({"predictions": predictions}))

    async with provider.generate(ImageRequest(model="imagen-4.0-generate-001", prompt="fox", n=2)) as answer:
        taken = await take(answer)

    assert [each.data[-1] for each in taken] == [0, 1]
    assert api.asked[0].json == {"instances": [{"prompt": "fox"}], "parameters": {"sampleCount": 2}}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, ContentRefused),
        ({"candidates": [{"finishReason": "IMAGE_SAFETY"}]}, ContentRefused),
        ({"predictions": [{"raiFilteredReason": "Unable to show generated images"}]}, ContentRefused),
        ({"candidates": [{"content": {"parts": [{"text": "I cannot draw"}]}, "finishReason": "STOP"}]}, ProviderError),
    ],
)
async def test_an_answer_without_a_picture_says_why(
    api: VendorServer, provider: Any, answer: dict[str, Any], error: type[MediagenError]
) -> None:
    api.on("POST", ".*:generateContent", Say(answer))

    with pytest.raises(error) as raised:
        async with provider.generate(ImageRequest(model="gemini-2.5-flash-image", prompt="fox")) as results:
            await take(results)

    assert type(raised.value) is error


OPERATION = Operation("vendor", "veo-3.1-generate-preview", Making.VIDEO, NAME)


@pytest.mark.parametrize(
    ("response", "error", "words"),
    [
        (
            {
                "response": {
                    "generateVideoResponse": {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": ["unsafe"]}
                }
            },
            ContentRefused,
            "unsafe",
        ),
        ({"response": {"raiMediaFilteredCount": 1}}, ContentRefused, "Filtered"),
        ({"response": {}}, ProviderError, "without a film"),
        ({"error": {"code": 13, "message": "internal"}}, ProviderError, "internal"),
        ({"error": {"code": 3, "message": "violates safety"}}, ContentRefused, "safety"),
    ],
)
async def test_done_without_a_film_has_failed(
    api: VendorServer, provider: Any, response: dict[str, Any], error: type[MediagenError], words: str
) -> None:
    api.on("GET", f"/v1beta/{NAME}", Say({"name": NAME, "done": True, **response}))

    status = await provider.poll(OPERATION)

    assert status.phase is Phase.FAILED
    assert type(status.error) is error
    assert words in status.error.detail
    with pytest.raises(error):
        async with provider.fetch(OPERATION) as answer:
            await take(answer)


@pytest.mark.parametrize(
    ("word", "code"),
    [("budget_exceeded", "provider_error"), ("incomplete", "provider_error"), ("requires_action", "provider_error")],
)
async def test_ends_of_interactions(api: VendorServer, provider: Any, word: str, code: str) -> None:
    api.on("GET", "/v1beta/interactions/i", Say({"id": "i", "status": word}))

    status = await provider.poll(Operation("vendor", INTERACTIONS, Making.VIDEO, "i"))

    assert status.error is not None
    assert (status.phase, status.error.code) == (Phase.FAILED, code)


async def test_interactions_can_be_stopped(api: VendorServer, provider: Any) -> None:
    api.on("POST", "/v1beta/interactions/i/cancel", Say({"id": "i", "status": "cancelled"}))

    assert await provider.cancel(Operation("vendor", INTERACTIONS, Making.VIDEO, "i"))
    assert not await provider.cancel(OPERATION)
