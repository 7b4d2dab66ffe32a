"""Links that expire, fetched by a client that knows nothing of S3."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from tests.contracts.uploads import KEY, put, the_bytes
from tests.storage.places import S3Place

DATA = the_bytes(1000)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def link(place: S3Place, filename: str = "film.mp4", *, ttl: int = 60, inline: bool = False) -> str:
    return await place.storage.presign(KEY, ttl=ttl, filename=filename, media_type="video/mp4", inline=inline)


async def test_a_link_gives_the_object_with_its_name_and_type(
    s3_store: S3Place, session: aiohttp.ClientSession
) -> None:
    await put(s3_store.storage, DATA)

    for inline, kind in [(True, "inline"), (False, "attachment")]:
        url = await link(s3_store, inline=inline)
        async with session.get(url) as answer:
            assert (answer.status, await answer.read()) == (200, DATA)
            assert answer.headers["Content-Type"] == "video/mp4"
            assert answer.content_disposition is not None
            assert answer.content_disposition.type == kind
            assert answer.content_disposition.filename == "film.mp4"
        async with session.get(url, headers={"Range": "bytes=10-19"}) as answer:
            assert (answer.status, await answer.read()) == (206, DATA[10:20])
        async with session.put(url, data=b"other") as answer:
            assert answer.status == 403


@pytest.mark.parametrize(
    "filename",
    [
        "Größe & Länge.mp4",
        "映画 その1.mp4",
        "🎬.mp4",
        'quo"te\\back.mp4',
        "per%20cent%.mp4",
        "semi;colon=1, comma.mp4",
        "line\r\nX-Evil: 1.mp4",
        "nul\0tab\t.mp4",
        "lone \udc80 surrogate.mp4",
        "' single ' quotes.mp4",
        "x" * 200,
    ],
)
async def test_a_name_of_any_kind_comes_through(
    s3_store: S3Place, session: aiohttp.ClientSession, filename: str
) -> None:
    await put(s3_store.storage, DATA)

    async with session.get(await link(s3_store, filename)) as answer:
        assert (answer.status, await answer.read()) == (200, DATA)
        assert "X-Evil" not in answer.headers
        raw = answer.headers["Content-Disposition"]
        assert answer.content_disposition is not None
        name = answer.content_disposition.filename

    assert raw.startswith('attachment; filename="')
    assert raw.isascii()
    assert raw.isprintable()
    assert name == filename.encode("utf-8", "replace").decode()


async def test_a_link_expires(s3_store: S3Place, session: aiohttp.ClientSession) -> None:
    await put(s3_store.storage, DATA)
    url = await link(s3_store, ttl=1)
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["1"]

    await asyncio.sleep(2.1)  # the store counts in whole seconds

    async with session.get(url) as answer:
        assert answer.status == 403


async def test_a_link_that_was_altered_is_refused(s3_store: S3Place, session: aiohttp.ClientSession) -> None:
    await put(s3_store.storage, DATA)
    await put(s3_store.storage, b"secret", key="videos/other.mp4", token="token-of-other")
    url = await link(s3_store)

    for altered in (url.replace("file_0123", "other"), url.replace("film.mp4", "evil.exe"), url.split("&X-Amz-Sig")[0]):
        async with session.get(altered) as answer:
            assert answer.status in (400, 403)


async def test_a_link_to_what_is_not_ours_is_not_made(s3_store: S3Place) -> None:
    with pytest.raises(ValueError, match="key"):
        await s3_store.storage.presign("../x", ttl=1, filename="x", media_type="video/mp4", inline=False)
