"""Pictures in streams of events, in every form that the standard allows, and in some that it does not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest

from mediagen.core.errors import ContentRefused, OutcomeUnknown, ProviderError, ProviderRateLimited
from mediagen.providers.base import Content, ImageRequest, Link
from mediagen.streams.sources import read_chunks
from tests.infra.servers.vendor import Say, VendorServer
from tests.providers.vendor_servers import b64, vendor

PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 5
EARLY: Final = b"\x89PNG\r\n\x1a\n" + b"early" * 50
LINK: Final = "https://cdn.example/a.png"
COMPLETED, PARTIAL = "image_generation.completed", "image_generation.partial_image"


@pytest.fixture
def api() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.fixture
async def provider(api: VendorServer) -> AsyncIterator[Any]:
    async with vendor(api.url, type="openai", models=("gpt-image-1.5",)) as provider:
        yield provider


def event(name: str | None, document: Any) -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(document)}\n\n"


DONE: Final = event(COMPLETED, {"type": COMPLETED, "b64_json": b64(PNG), "usage": {"total_tokens": 9}})
IN_LINES: Final = json.dumps({"type": COMPLETED, "b64_json": b64(PNG)}, indent=1).replace("\n", "\ndata: ")


async def taken(provider: Any, n: int = 1) -> tuple[list[bytes | str], list[bytes]]:
    """The pictures, and their earlier states."""
    pictures: dict[int, bytes | str] = {}
    earlier = []
    async with provider.generate(ImageRequest(model="gpt-image-1.5", prompt="fox", n=n, partial_images=1)) as answer:
        async for made in answer:
            if isinstance(made, Link):
                pictures[made.index] = made.url
                continue
            assert isinstance(made, Content)
            data = b"".join([chunk async for chunk in read_chunks(made.source)])
            if made.partial is None:
                pictures[made.index] = data
            else:
                earlier.append(data)
    return [each for index, each in pictures.items() if index not in answer.about.withdrawn], earlier


STREAMS: Final[dict[str, str]] = {
    "as documented": DONE,
    "with a mark of order": "\ufeff" + DONE,
    "carriage returns": DONE.replace("\n", "\r"),
    "both": DONE.replace("\n", "\r\n"),
    "comments": ": ping\n\n: ping\n" + DONE.replace("\n\n", "\n: in between\n\n"),
    "empty data": "data:\n\ndata\n\ndata: \n\n" + DONE,
    "words as data": "event: ping\ndata: ping\n\n" + DONE,
    "numbers as data": 'data: 1\n\ndata: null\n\ndata: []\n\ndata: "x"\n\ndata: {}\n\n' + DONE,
    "broken data": 'data: {"type": "' + COMPLETED + '", "x\n\ndata: {"a": 1}}\n\n' + DONE,
    "a page": "<html>\n<p>wait</p>\n" + "x" * 5000 + "\n\n" + DONE,
    "several lines of data": f"event: {COMPLETED}\ndata: {IN_LINES}\n\n",
    "lines of a picture": DONE.replace(b64(PNG), b64(PNG)[:400] + "\ndata: " + b64(PNG)[400:]),
    "no blank": DONE.replace(": ", ":"),
    "the name behind the data": f"data: {json.dumps({'b64_json': b64(PNG)})}\nevent: {COMPLETED}\n\n",
    "no name": event(None, {"type": COMPLETED, "b64_json": b64(PNG)}),
    "no name, type behind": event(None, {"b64_json": b64(PNG), "type": COMPLETED}),
    "neither": event(None, {"b64_json": b64(PNG)}),
    "another name": event("message", {"b64_json": b64(PNG), "n": 1}),
    "partial images are echoed": event(None, {"type": COMPLETED, "partial_images": 2, "b64_json": b64(PNG)}),
    "a number among states": event(COMPLETED, {"partial_image_index": 0, "b64_json": b64(PNG)}),
    "the whole answer": event(None, {"created": 1, "data": [{"b64_json": b64(PNG), "url": None}]}),
    "an object of the picture": event(COMPLETED, {"type": COMPLETED, "image": {"b64_json": b64(PNG)}}),
    "as a data: URI": event(COMPLETED, {"url": f"data:image/png;base64,{b64(PNG)}"}),
    "base64 and a link": event(COMPLETED, {"b64_json": b64(PNG), "url": LINK}),
    "empty base64": event(COMPLETED, {"b64_json": "", "url": f"data:image/png;base64,{b64(PNG)}"}),
    "no end": DONE.rstrip("\n"),
    "the mark of the end": DONE + "data: [DONE]\n\n",
    "an error behind": DONE + event("error", {"error": {"message": "late"}}),
    "noise behind": DONE + "data: {" + "x" * 3000,
    "a link that is none before": event(COMPLETED, {"url": "http://["}) + DONE,
    "an unheard-of event": event("image_generation.queued", {"type": "image_generation.queued"}) + DONE,
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("pieces", [1, 13, 100_000])
async def test_the_picture_comes(api: VendorServer, provider: Any, name: str, pieces: int) -> None:
    api.on("POST", ".*", Say(STREAMS[name], media_type="text/event-stream", pieces=pieces))

    assert await taken(provider) == ([PNG], [])


EARLIER: Final[dict[str, str]] = {
    "as documented": event(PARTIAL, {"type": PARTIAL, "b64_json": b64(EARLY), "partial_image_index": 0}),
    "by its type": event(None, {"type": PARTIAL, "b64_json": b64(EARLY)}),
    "by its name": event(PARTIAL, {"b64_json": b64(EARLY)}),
    "by its number": event(None, {"partial_image_index": 0, "b64_json": b64(EARLY)}),
}
LATE: Final[dict[str, str]] = {
    "by the type behind": event(None, {"b64_json": b64(EARLY), "partial_image_index": 0, "type": PARTIAL}),
    "by the number behind": event(None, {"b64_json": b64(EARLY), "partial_image_index": 0}),
    "by the name behind": f"data: {json.dumps({'b64_json': b64(EARLY)})}\nevent: {PARTIAL}\n\n",
    "a link": event(None, {"url": LINK, "type": PARTIAL}),
}


@pytest.mark.parametrize("name", EARLIER)
async def test_earlier_states_are_shown(api: VendorServer, provider: Any, name: str) -> None:
    api.on("POST", ".*", Say(EARLIER[name] * 2 + DONE, media_type="text/event-stream", pieces=77))

    assert await taken(provider) == ([PNG], [EARLY, EARLY])


@pytest.mark.parametrize("name", LATE)
async def test_what_shows_only_behind_itself_that_it_is_an_earlier_state_is_no_picture(
    api: VendorServer, provider: Any, name: str
) -> None:
    api.on("POST", ".*", Say(LATE[name] * 2 + DONE, media_type="text/event-stream", pieces=77))

    assert await taken(provider) == ([PNG], [])


@pytest.mark.parametrize("media_type", ["text/event-stream", "text/plain", "application/json"])
async def test_it_is_told_by_its_bytes(api: VendorServer, provider: Any, media_type: str) -> None:
    api.on("POST", ".*", Say(": hi\n\n" + DONE, media_type=media_type))
    assert await taken(provider) == ([PNG], [])

    api.on("POST", ".*", Say({"data": [{"b64_json": b64(PNG)}]}, media_type=media_type))
    assert await taken(provider) == ([PNG], [])


async def test_a_link_instead_of_base64(api: VendorServer, provider: Any) -> None:
    api.on("POST", ".*", Say(event(COMPLETED, {"type": COMPLETED, "url": LINK}), media_type="text/event-stream"))

    assert await taken(provider) == ([LINK], [])


async def test_a_connection_that_breaks_behind_the_last_picture_costs_nothing(api: VendorServer, provider: Any) -> None:
    api.on("POST", ".*", Say(DONE + ": x" * 999, media_type="text/event-stream", cut=len(DONE) + 20))

    assert await taken(provider) == ([PNG], [])
    with pytest.raises(OutcomeUnknown):
        await taken(provider, n=2)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (event("error", {"error": {"code": "moderation_blocked", "message": "no"}}), ContentRefused, "no"),
        (event("error", {"error": {"code": "rate_limit_exceeded", "message": "slow"}}), ProviderRateLimited, "slow"),
        (event(None, {"error": "boom"}), ProviderError, "boom"),
        (event("info", {"message": "the painter is ill"}), ProviderError, "painter"),
        (event(COMPLETED, {"url": "http://["}), ProviderError, "cannot be fetched"),
        ("data: ping\n\n", OutcomeUnknown, "ended before"),
        (EARLIER["as documented"], OutcomeUnknown, "ended before"),
        (LATE["by the type behind"], OutcomeUnknown, "ended before"),
        ("", ProviderError, "empty|ended"),
    ],
)
async def test_without_a_picture_it_says_why(
    api: VendorServer, provider: Any, text: str, error: type[Exception], words: str
) -> None:
    api.on("POST", ".*", Say(text, media_type="text/event-stream"))

    with pytest.raises(error, match=words):
        await taken(provider)
