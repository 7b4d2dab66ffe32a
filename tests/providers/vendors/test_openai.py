"""OpenAI's API and the engines that speak it, replayed from the documented shapes (API reference, 2026-11-20)."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from mediagen.core.errors import (
    ContentRefused,
    MediagenError,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
)
from mediagen.providers.base import ImageRequest, Making, Operation, Phase, Size, VideoRequest
from tests.contracts.provider import FILM, PNG, Bench, Fault, ImageRefusals, VideoRefusals, settled, take
from tests.infra.process import resident_bytes
from tests.infra.servers.vendor import Say, VendorServer
from tests.providers.vendor_servers import KEY, an_input, b64, opened, plain_fault, vendor


@pytest.fixture
def api() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


def images(*pictures: bytes, **more: Any) -> Say:
    return Say({"created": 1_790_000_000, "data": [{"b64_json": b64(data)} for data in pictures], **more}, pieces=1237)


def video(status: str, **more: Any) -> Say:
    return Say(
        {
            "id": "video_1",
            "object": "video",
            "model": "sora-2",
            "status": status,
            "progress": 0,
            "created_at": 1,
            **more,
        }
    )


class OpenAIBench(Bench):
    image_model = "gpt-image-1.5"
    video_model = "sora-2"

    def __init__(self, provider: Any, api: VendorServer) -> None:
        self.provider = provider
        self.api = api

    def ready_images(self, pictures: list[bytes]) -> None:
        self.api.on("POST", "/v1/images/generations", images(*pictures))

    def ready_video(self, film: bytes, *, words: list[str] | None = None) -> None:
        self.api.on("POST", "/v1/videos", video("queued"))
        self.api.on("GET", "/v1/videos/video_1", *map(video, words or ["queued", "in_progress", "completed"]))
        self.api.on("GET", "/v1/videos/video_1/content", Say(film, media_type="video/mp4"))

    def break_images(self, fault: Fault) -> None:
        self.api.on("POST", "/v1/images/generations", plain_fault(fault))

    def break_submit(self, fault: Fault) -> None:
        self.api.on("POST", "/v1/videos", plain_fault(fault))

    @property
    def paid_calls(self) -> int:
        return len(self.api.calls("POST"))


class TestOpenAI(VideoRefusals, ImageRefusals):
    @pytest.fixture
    async def bench(self, api: VendorServer) -> AsyncIterator[OpenAIBench]:
        async with vendor(f"{api.url}/v1", type="openai", models=("gpt-image-1.5", "sora-2")) as provider:
            yield OpenAIBench(provider, api)


@pytest.fixture
async def generic(api: VendorServer) -> AsyncIterator[Any]:
    async with vendor(f"{api.url}/v1", type="openai", engine="generic", models=("m",)) as provider:
        yield provider


async def generate(provider: Any, **changes: Any) -> tuple[list[bytes], Any]:
    async with provider.generate(ImageRequest(**{"model": "m", "prompt": "fox", **changes})) as answer:
        return [each.data for each in await take(answer)], answer.about


async def test_what_is_sent_for_pictures(api: VendorServer) -> None:
    api.on("POST", "/v1/images/generations", images(PNG, size="1024x1536", usage={"total_tokens": 5}))
    async with vendor(f"{api.url}/v1", type="openai", models=("gpt-image-1.5",)) as provider:
        _, about = await generate(
            provider,
            model="gpt-image-1.5",
            size=Size(1024, 1536),
            quality="high",
            output_format="webp",
            output_compression=80,
            background="opaque",
            user="u",
            seed=4,
            extra={"input_fidelity": "high"},
        )

    (asked,) = api.asked
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.json == {
        "model": "gpt-image-1.5",
        "prompt": "fox",
        "n": 1,
        "size": "1024x1536",
        "quality": "high",
        "output_format": "webp",
        "output_compression": 80,
        "background": "opaque",
        "user": "u",
        "input_fidelity": "high",
    }
    assert about.reported["size"] == "1024x1536"
    assert about.usage.reported == {"total_tokens": 5}


@pytest.mark.parametrize(
    ("engine", "sent"), [("localai", "b64_json"), ("sglang", "b64_json"), ("vllm-omni", "b64_json"), ("sdcpp", None)]
)
async def test_engines_are_asked_for_what_they_can(api: VendorServer, engine: str, sent: str | None) -> None:
    api.on("POST", "/v1/images/generations", images(PNG))
    async with vendor(f"{api.url}/v1", type="openai", engine=engine, models=("m",)) as provider:
        await generate(provider, seed=7, negative_prompt="blur")

    assert api.asked[0].json.get("response_format") == sent
    assert api.asked[0].json["seed"] == 7
    assert api.asked[0].json["negative_prompt"] == "blur"


async def test_urls_relative_absolute_and_as_data(api: VendorServer, generic: Any) -> None:
    """LocalAI names its own files, which need its key as well."""
    data = [
        {"url": "/generated-images/a.png"},
        {"url": f"{api.url}/generated-images/b.png"},
        {"url": f"data:image/png;base64,{b64(PNG + b'c')}"},
        {"b64_json": f"data:image/png;base64,{b64(PNG + b'd')}", "revised_prompt": "a fox"},
    ]
    api.on("POST", "/v1/images/generations", Say({"created": 1, "data": data}, pieces=11))
    api.on("GET", "/generated-images/a.png", Say(PNG + b"a", media_type="image/png"))
    api.on("GET", "/generated-images/b.png", Say(PNG + b"b", media_type="image/png"))

    pictures, about = await generate(generic, n=4)

    assert pictures == [PNG + bytes([letter]) for letter in b"abcd"]
    assert {each.headers.get("authorization") for each in api.calls("GET")} == {f"Bearer {KEY}"}
    assert about.revised_prompts == {3: "a fox"}


async def test_the_key_never_leaves_its_origin(api: VendorServer, generic: Any) -> None:
    """Another port is another origin: it gets no key, and a private address is refused as for everybody."""
    with VendorServer() as other:
        other.on("GET", "/x.png", Say(PNG, media_type="image/png"))
        api.on("POST", "/v1/images/generations", Say({"data": [{"url": f"{other.url}/x.png"}]}))
        with pytest.raises(MediagenError, match="not allowed"):
            await generate(generic)

        api.on("POST", "/v1/images/generations", Say({"data": [{"url": f"{api.url}/moved"}]}))
        api.on("GET", "/moved", Say(b"", 302, {"Location": f"{other.url}/x.png"}))
        with pytest.raises(MediagenError, match="not allowed"):
            await generate(generic)

        api.on("POST", "/v1/images/generations", Say(b"", 307, {"Location": f"{other.url}/v1/images/generations"}))
        with pytest.raises(ProviderError, match="redirects"):
            await generate(generic)

        assert not list(other.asked)


async def test_edits_are_a_form_with_the_pictures(api: VendorServer) -> None:
    api.on("POST", "/v1/images/edits", images(PNG))
    inputs = (an_input(PNG), an_input(PNG + b"2"), an_input(PNG + b"m", role="mask"))
    async with vendor(f"{api.url}/v1", type="openai", models=("gpt-image-1.5",)) as provider:
        await generate(provider, model="gpt-image-1.5", inputs=inputs, n=2)
        await generate(provider, model="gpt-image-1.5", inputs=inputs[:1])

    first, second = api.asked
    assert first.form["image[]"] == [PNG, PNG + b"2"]
    assert first.form["mask"] == [PNG + b"m"]
    assert (first.form["n"], first.form["prompt"]) == ([b"2"], [b"fox"])
    assert int(first.headers["content-length"]) == len(first.body)
    assert second.form["image"] == [PNG]


def sse(*events: dict[str, Any], named: bool = True, pieces: int = 777) -> Say:
    text = ": heartbeat\n\n"
    for event in events:
        text += (f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n"
    return Say(text + "data: [DONE]\n\n", media_type="text/event-stream", pieces=pieces)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("pieces", [1, 7, 100_000])
async def test_earlier_states_are_streamed(api: VendorServer, named: bool, pieces: int) -> None:
    partial = [
        {"type": "image_generation.partial_image", "partial_image_index": index, "b64_json": b64(b"p%d" % index * 500)}
        for index in range(2)
    ]
    done = {
        "type": "image_generation.completed",
        "b64_json": b64(PNG[:500]),
        "size": "1x1",
        "usage": {"total_tokens": 9},
    }
    api.on("POST", "/v1/images/generations", sse(*partial, done, named=named, pieces=pieces))

    request = ImageRequest(model="gpt-image-1.5", prompt="fox", partial_images=2)
    async with (
        vendor(f"{api.url}/v1", type="openai", models=("gpt-image-1.5",)) as provider,
        provider.generate(request) as answer,
    ):
        taken = await take(answer)

    assert [(each.partial, each.data) for each in taken] == [(0, b"p0" * 500), (1, b"p1" * 500), (None, PNG[:500])]
    assert answer.about.usage is not None
    assert answer.about.usage.reported == {"total_tokens": 9}
    assert (api.asked[0].json["stream"], api.asked[0].json["partial_images"]) == (True, 2)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"type": "error", "error": {"code": "moderation_blocked", "message": "no"}}, ContentRefused),
        ({"type": "error", "message": "boom"}, ProviderError),
        ({"type": "image_generation.unheard_of"}, OutcomeUnknown),
    ],
)
async def test_a_stream_that_ends_badly(api: VendorServer, event: dict[str, Any], error: type[Exception]) -> None:
    api.on("POST", "/v1/images/generations", sse(event))

    async with vendor(f"{api.url}/v1", type="openai", models=("gpt-image-1.5",)) as provider:
        with pytest.raises(error):
            async with provider.generate(ImageRequest(model="gpt-image-1.5", prompt="fox", partial_images=1)) as answer:
                await take(answer)


async def test_without_a_stream_the_whole_answer_will_do(api: VendorServer) -> None:
    api.on("POST", "/v1/images/generations", images(PNG))

    async with vendor(f"{api.url}/v1", type="openai", models=("gpt-image-1.5",)) as provider:
        pictures, _ = await generate(provider, model="gpt-image-1.5", partial_images=2)

    assert pictures == [PNG]


@pytest.mark.parametrize(
    ("say", "error", "words"),
    [
        (Say({"error": "generate_image returned no results"}, 500), ProviderUnavailable, "no results"),
        (Say({"detail": "prompt is empty"}, 400), MediagenError, "prompt is empty"),
        (
            Say({"detail": [{"loc": ["body", "size"], "msg": "bad size", "type": "value_error"}]}, 422),
            MediagenError,
            "bad size",
        ),
        (Say({"data": [{"b64_json": "@@@@"}]}), ProviderError, "not base64"),
        (Say({"data": [{"b64_json": None, "url": None}]}), ProviderError, "without a picture"),
        (Say('{"data": [{"b64_json": "AAAA"}', pieces=5), ProviderError, "cannot be read"),
        (Say({"data": [{"url": "file:///etc/passwd"}]}), ProviderError, "cannot be fetched"),
        (Say("[]"), ProviderError, "not respond with a JSON object"),
        (Say(b"\x00\x01", media_type="application/octet-stream"), ProviderError, "cannot be read"),
    ],
)
async def test_odd_answers_are_errors_with_words(
    api: VendorServer, generic: Any, say: Say, error: type[MediagenError], words: str
) -> None:
    api.on("POST", "/v1/images/generations", say)

    with pytest.raises(error, match=words):
        await generate(generic)


@pytest.mark.parametrize("whole", [True, False])
async def test_an_answer_that_comes_compressed_unasked(api: VendorServer, generic: Any, whole: bool) -> None:
    document = gzip.compress(json.dumps({"data": [{"b64_json": b64(PNG * 30)}]}).encode())
    say = Say(document if whole else document[:-20], headers={"Content-Encoding": "gzip"}, pieces=99)
    api.on("POST", "/v1/images/generations", say)

    if whole:
        assert (await generate(generic))[0] == [PNG * 30]
    else:
        with pytest.raises(OutcomeUnknown):
            await generate(generic)
    assert api.asked[0].headers["accept-encoding"] == "identity"


async def test_silence_has_an_end(api: VendorServer) -> None:
    api.on("POST", "/v1/images/generations", Say(silent=True))

    async with vendor(f"{api.url}/v1", type="openai", engine="generic", models=("m",), answer_seconds=0.2) as provider:
        with pytest.raises(OutcomeUnknown):
            await generate(provider)


async def test_nobody_there_is_surely_not_sent() -> None:
    with VendorServer() as gone:
        url = f"{gone.url}/v1"

    async with vendor(url, type="openai", engine="generic", models=("m",)) as provider:
        with pytest.raises(ProviderUnavailable):
            await generate(provider)


# -- films


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        ("queued", Phase.QUEUED),
        ("IN_PROGRESS", Phase.RUNNING),
        ("In Progress", Phase.RUNNING),
        ("succeeded", Phase.COMPLETED),
        ("SUCCESS", Phase.COMPLETED),
        ("completed", Phase.COMPLETED),
        ("failed", Phase.FAILED),
        ("expired", Phase.FAILED),
        ("canceled", Phase.FAILED),
        ("cancelled", Phase.FAILED),
        ("never-heard-of", Phase.RUNNING),
    ],
)
async def test_words_of_gateways_are_understood(
    api: VendorServer, generic: Any, word: str | None, phase: Phase
) -> None:
    api.on("GET", "/v1/videos/v", Say({"id": "v", "status": word, "progress": "40%"}))

    status = await generic.poll(Operation("vendor", "m", Making.VIDEO, "v"))

    assert status.phase is phase
    assert (status.error is not None) == (phase is Phase.FAILED)
    assert status.percent == (40 if phase is Phase.RUNNING else None)


async def test_a_refused_film_says_so(api: VendorServer, generic: Any) -> None:
    error = {"code": "moderation_blocked", "message": "Our systems flagged it"}
    api.on("GET", "/v1/videos/v", Say({"id": "v", "status": "failed", "error": error}))

    status = await generic.poll(Operation("vendor", "m", Making.VIDEO, "v"))

    assert isinstance(status.error, ContentRefused)


@pytest.mark.parametrize(
    ("say", "retryable"),
    [(Say({}, 500), True), (Say({}, 400), False), (Say({}, 404), False), (Say(lost=True), True), (Say({}, 504), True)],
)
async def test_looking_may_fail_and_be_tried_again(api: VendorServer, generic: Any, say: Say, retryable: bool) -> None:
    api.on("GET", "/v1/videos/v", say)

    with pytest.raises(ProviderError) as raised:
        await generic.poll(Operation("vendor", "m", Making.VIDEO, "v"))

    assert raised.value.retryable is retryable
    assert not isinstance(raised.value, OutcomeUnknown)


async def test_a_film_is_asked_for_as_its_engine_likes(api: VendorServer) -> None:
    api.on("POST", "/v1/videos", video("queued"))
    request = VideoRequest(model="sora-2", prompt="fox", seconds=8, size=Size(1280, 720), seed=3)
    for engine in ("openai", "sglang", "vllm-omni"):
        async with vendor(f"{api.url}/v1", type="openai", engine=engine, models=("sora-2",)) as provider:
            await provider.submit(request)

    as_form, as_json, with_seed = api.asked
    assert as_form.form == {"model": [b"sora-2"], "prompt": [b"fox"], "seconds": [b"8"], "size": [b"1280x720"]}
    assert as_json.json == {"model": "sora-2", "prompt": "fox", "seconds": "8", "size": "1280x720", "seed": 3}
    assert with_seed.form["seed"] == [b"3"]


async def test_the_first_frame_travels(api: VendorServer, generic: Any) -> None:
    api.on("POST", "/v1/videos", video("queued"))
    request = VideoRequest(model="m", prompt="fox", inputs=(an_input(PNG, role="first_frame"),))
    await generic.submit(request)
    async with vendor(f"{api.url}/v1", type="openai", models=("sora-2",)) as provider:
        await provider.submit(request)

    assert api.asked[0].json["input_reference"] == {"image_url": f"data:image/png;base64,{b64(PNG)}"}
    assert api.asked[1].form["input_reference"] == [PNG]


async def test_a_remix_and_a_stop(api: VendorServer, generic: Any) -> None:
    api.on("POST", "/v1/videos/video_9/remix", video("queued"))
    api.on("DELETE", "/v1/videos/video_1", Say({"id": "video_1", "object": "video.deleted", "deleted": True}))

    operation = await generic.submit(VideoRequest(model="m", prompt="more snow", remix_of="video_9"))

    assert api.asked[0].json == {"prompt": "more snow"}
    assert await generic.cancel(operation)


async def test_a_link_of_a_gateway_is_asked_for_anew(api: VendorServer, generic: Any) -> None:
    links = [video("completed", metadata={"url": f"{api.url}/film-{number}.mp4"}) for number in (1, 2, 3)]
    api.on("GET", "/v1/videos/v", *links)
    api.on("GET", "/film-.*", Say(FILM, media_type="video/mp4"))

    status = await generic.poll(Operation("vendor", "m", Making.VIDEO, "v"))
    for _ in range(2):
        async with generic.fetch(status.operation) as answer:
            assert (await take(answer))[0].data == FILM

    assert [each.path for each in api.calls("GET", "/film.*")] == ["/film-2.mp4", "/film-3.mp4"]


async def test_an_accepted_film_without_an_id_is_not_asked_for_again(api: VendorServer, generic: Any) -> None:
    api.on("POST", "/v1/videos", Say({"status": "queued"}))

    with pytest.raises(OutcomeUnknown):
        await generic.submit(VideoRequest(model="m", prompt="fox"))


async def test_models_and_their_other_names(api: VendorServer) -> None:
    async with opened(f"{api.url}/v1", type="openai", models=("draw=gpt-image-1.5", "sora-2")) as providers:
        assert [offer.name for offer in providers.offers] == ["draw", "sora-2", "builtin-poster", "builtin-clip"]
        assert providers.offer("draw", Making.IMAGE).model.id == "gpt-image-1.5"
        assert providers.offer("vendor/sora-2", Making.VIDEO).model.id == "sora-2"
        assert providers.offer(None, Making.IMAGE).name == "draw"
        assert providers.offer("builtin-clip", Making.VIDEO).provider.name == "builtin"
        with pytest.raises(MediagenError, match="makes no video"):
            providers.offer("draw", Making.VIDEO)
        with pytest.raises(MediagenError, match="did you mean 'sora-2'"):
            providers.offer("sora2", Making.VIDEO)
        with pytest.raises(ProviderError, match="not configured"):
            providers.operations_of("gone")


async def test_a_huge_answer_stays_out_of_memory(api: VendorServer, generic: Any) -> None:
    """Four pictures of 48 MiB as base64 in one answer of 256 MiB."""
    picture = b64(bytes(48 << 20))
    document = ('{"data":[' + ",".join(f'{{"b64_json":"{picture}"}}' for _ in range(4)) + "]}").encode()
    api.on("POST", "/v1/images/generations", Say(document, pieces=1 << 20))
    before = await asyncio.to_thread(resident_bytes, os.getpid(), peak=True)
    scratch = memoryview(bytearray(1 << 20))
    total = 0

    async with generic.generate(ImageRequest(model="m", prompt="fox", n=4)) as answer:
        async for made in answer:
            while count := await made.source.read_into(scratch):
                total += count

    assert total == 4 * 48 << 20
    assert await asyncio.to_thread(resident_bytes, os.getpid(), peak=True) - before < 64 << 20


async def test_a_picture_given_twice_counts_once(api: VendorServer, generic: Any) -> None:
    data = [{"b64_json": b64(PNG), "url": f"{api.url}/a.png"}, {"url": None, "b64_json": b64(PNG + b"2")}]
    api.on("POST", "/v1/images/generations", Say({"data": data}))

    pictures, _ = await generate(generic, n=2)

    assert pictures == [PNG, PNG + b"2"]


@pytest.mark.parametrize("job_id", ["../../admin", "a/b?c=d#e", "x" * 300, "mit Leerraum ü"])
async def test_an_id_stays_one_piece_of_the_path(api: VendorServer, generic: Any, job_id: str) -> None:
    api.on("POST", "/v1/videos", Say({"id": job_id, "status": "queued"}))
    api.on("GET", "/v1/videos/[^/?#]+", video("completed"))

    operation = await generic.submit(VideoRequest(model="m", prompt="fox"))
    status = await generic.poll(operation)

    assert status.phase is Phase.COMPLETED
    assert unquote(api.calls("GET")[0].path.removeprefix("/v1/videos/")) == job_id


async def test_an_id_that_is_a_way_is_refused(api: VendorServer, generic: Any) -> None:
    with pytest.raises(ProviderError, match="unusable id"):
        await generic.poll(Operation("vendor", "m", Making.VIDEO, ".."))

    assert not list(api.asked)


async def test_gateways_that_name_things_otherwise(api: VendorServer, generic: Any) -> None:
    """``task_id`` of New API, ``unsigned_urls`` of OpenRouter."""
    api.on("POST", "/v1/videos", Say({"task_id": "t1", "status": "pending"}))
    api.on("GET", "/v1/videos/t1", Say({"id": "t1", "status": "completed", "unsigned_urls": [f"{api.url}/o.mp4"]}))
    api.on("GET", "/o.mp4", Say(FILM, media_type="video/mp4"))

    operation = await generic.submit(VideoRequest(model="m", prompt="fox"))
    status = await settled(generic, operation)
    async with generic.fetch(status.operation) as answer:
        (taken,) = await take(answer)

    assert taken.data == FILM


async def test_a_film_that_is_ready_at_once(api: VendorServer, generic: Any) -> None:
    OpenAIBench(generic, api).ready_video(FILM, words=["Completed"])

    operation = await generic.submit(VideoRequest(model="m", prompt="fox"))

    assert (await settled(generic, operation)).phase is Phase.COMPLETED
