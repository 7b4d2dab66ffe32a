from __future__ import annotations

import base64
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from mediagen.core.errors import InvalidBase64, InvalidRequest, TooLarge
from mediagen.streams.json.media_fields import EmbeddedMedia
from mediagen.streams.json.scanner import Rules
from mediagen.streams.sources import ChunkSource, read_chunks
from tests.infra.content import content_bytes
from tests.streams.json.splitting import split_at

MEDIA = content_bytes(700_001, 3)


async def arriving(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def answer(media: bytes, **around: Any) -> bytes:
    """A provider's answer, as some of them write it: slashes escaped."""
    text = base64.b64encode(media).decode()
    return (
        json.dumps({"created": 1, "data": [{"b64_json": text, "prompt": 'a "cat"'}], **around})
        .replace("/", "\\/")
        .encode()
    )


async def test_media_comes_out_of_a_document_that_is_still_arriving() -> None:
    raw = answer(MEDIA, usage={"tokens": 5})
    pieces = split_at(raw, range(0, len(raw), 65_521))
    embedded = EmbeddedMedia(arriving(pieces), ("data", "0", "b64_json"))

    media = b"".join([bytes(view) async for view in embedded.chunks()])

    assert media == MEDIA
    assert embedded.found
    assert embedded.media_type is None
    assert embedded.document == {
        "created": 1,
        "data": [{"b64_json": "", "prompt": 'a "cat"'}],
        "usage": {"tokens": 5},
    }


async def test_the_first_bytes_are_there_before_the_document_is() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b'{"data":"data:image/png;base64,QUJD'
        raise AssertionError("asked for more before giving what is there")

    embedded = EmbeddedMedia(slow(), ("data",))

    chunks = embedded.chunks()
    assert bytes(await anext(chunks)) == b"ABC"
    assert embedded.media_type == "image/png"
    await chunks.aclose()  # type: ignore[attr-defined]  # an async generator


async def test_a_missing_field_is_an_error_unless_it_may_be_missing() -> None:
    raw = b'{"url":"http://example.org/"}'

    with pytest.raises(InvalidRequest, match="'/data'"):
        _ = [view async for view in EmbeddedMedia(arriving([raw]), ("data",)).chunks()]
    embedded = EmbeddedMedia(arriving([raw]), ("data",))
    assert [view async for view in embedded.chunks(required=False)] == []
    assert (embedded.found, embedded.document) == (False, json.loads(raw))


@pytest.mark.parametrize("raw", [b'{"data":""}', b'{"data":"data:image/png;base64,"}', b'{"data":" \\n"}'])
async def test_an_empty_field_is_empty_media(raw: bytes) -> None:
    embedded = EmbeddedMedia(arriving([raw]), ("data",))

    assert [view async for view in embedded.chunks()] == []
    assert embedded.found


@pytest.mark.parametrize(
    ("raw", "error", "words"),
    [
        (b'{"data":"QUJD!"}', InvalidBase64, "offset 4"),
        (b'{"data":"QUJDQ"}', InvalidBase64, "offset 5"),
        (b'{"data":"QUJD"', InvalidRequest, "not a complete JSON"),
        (b'{"data":"QUJD', InvalidRequest, "not a complete JSON"),
        (b'{"data":"QUJD","data":"QUJD"}', InvalidRequest, "twice"),
        (b'{"data":"QUJD","x":"' + b"y" * 2000 + b'"}', TooLarge, "1000"),
    ],
)
@pytest.mark.parametrize("step", [1, 1 << 20])
async def test_what_is_wrong_ends_in_an_error(raw: bytes, error: type[Exception], words: str, step: int) -> None:
    pieces = [raw[at : at + step] for at in range(0, len(raw), step)]
    embedded = EmbeddedMedia(arriving(pieces), ("data",), Rules(max_rest=1000))

    with pytest.raises(error, match=words):
        _ = [view async for view in embedded.chunks()]


async def test_huge_media_flows_through_little_memory() -> None:
    text = base64.b64encode(content_bytes(3 << 18, 1))

    async def huge() -> AsyncIterator[bytes]:
        yield b'{"data":"'
        for _ in range(24):
            yield text
        yield b'"}'

    total = 0
    tracemalloc.start()
    try:
        async for view in EmbeddedMedia(huge(), ("data",)).chunks():
            total += len(view)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert total == 24 * (3 << 18)
    assert peak < 4 << 20


async def test_a_source_as_chunks() -> None:
    whole = content_bytes(700_000, 2)

    assert b"".join([chunk async for chunk in read_chunks(ChunkSource(arriving([whole[:5], whole[5:]])))]) == whole
