"""Requests that a store wants otherwise: without ``Expect``, at another URL, or once more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from pydantic import SecretStr

from mediagen.core.errors import StorageRefused, StorageUnavailable
from mediagen.storage.s3 import http as s3_http
from mediagen.storage.s3.http import REMEMBERED_SECONDS, Expectations
from mediagen.storage.s3.storage import S3Storage
from mediagen.storage.settings import S3Settings
from mediagen.streams.parts import BufferBody
from tests.contracts.uploads import ABOUT, KEY, put_parts, the_bytes
from tests.infra.servers.http_messages import Head
from tests.storage.places import S3_PART
from tests.storage.rawstore import RawStore, Seen, an_answer

WHOLE: Final = the_bytes(5000)
HALVES: Final = the_bytes(S3_PART + 1000)


@pytest.fixture
async def raw() -> AsyncIterator[RawStore]:
    async with RawStore() as store:
        yield store


def settings(raw: RawStore, **changes: Any) -> S3Settings:
    given: dict[str, Any] = {
        "bucket": "films",
        "endpoint_url": raw.url,
        "access_key_id": "key",
        "secret_access_key": SecretStr("secret"),
        "part_bytes": S3_PART,
        "attempts": 3,
    }
    return S3Settings(**{**given, **changes})


async def parts_and_whole(storage: S3Storage) -> None:
    """An upload in two parts, one after the other, and one that is whole."""
    async with storage.open_sink(KEY, **ABOUT, size=len(HALVES), parallel=True) as sink:
        await sink.begin()
        parts = [*await put_parts(sink, HALVES, [1]), *await put_parts(sink, HALVES, [2])]
        await sink.commit(parts, size=len(HALVES), crc32=0)
    await whole(storage)


async def whole(storage: S3Storage) -> None:
    async with storage.open_sink("videos/whole", **ABOUT, size=len(WHOLE)) as sink:
        await sink.put_whole(BufferBody(memoryview(WHOLE)))
        await sink.commit([], size=len(WHOLE), crc32=0)


def puts(raw: RawStore) -> list[Seen]:
    return [seen for seen in raw.seen if seen.head.method == "PUT"]


async def test_a_store_that_says_nothing_gets_the_body_and_is_not_asked_again(
    either: RawStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_http, "CONTINUE_SECONDS", 0.1)
    either.expectation = "silent"

    async with asyncio.timeout(10), S3Storage(settings(either)) as storage:
        await parts_and_whole(storage)

    assert [bytes(seen.body) for seen in puts(either)] == [HALVES[:S3_PART], HALVES[S3_PART:], WHOLE]
    assert [seen.head.has_token("Expect", "100-continue") for seen in puts(either)] == [True, False, False]


async def test_a_store_that_refuses_to_say_it_is_asked_without(either: RawStore) -> None:
    either.expectation = "refuses"

    async with asyncio.timeout(10), S3Storage(settings(either)) as storage:
        await parts_and_whole(storage)

    assert [bytes(seen.body) for seen in puts(either)] == [b"", HALVES[:S3_PART], HALVES[S3_PART:], WHOLE]
    assert [seen.head.has_token("Expect", "100-continue") for seen in puts(either)] == [True, False, False, False]


async def test_417_to_a_request_that_expects_nothing_ends(raw: RawStore) -> None:
    raw.answer = lambda seen: (417, b"") if seen.head.method == "PUT" else an_answer(seen)

    async with asyncio.timeout(10), S3Storage(settings(raw)) as storage:
        with pytest.raises(StorageRefused, match="417"):
            await whole(storage)

    assert len(puts(raw)) < 10


async def test_a_store_that_says_it_is_asked_each_time(either: RawStore) -> None:
    async with S3Storage(settings(either)) as storage:
        await parts_and_whole(storage)

    assert all(seen.head.has_token("Expect", "100-continue") for seen in puts(either))


def test_a_store_is_asked_again_after_a_while() -> None:
    now = 0.0
    expectations = Expectations(lambda: now)
    assert expectations.asks()
    expectations.disappointed("silent")
    now = REMEMBERED_SECONDS - 1
    assert not expectations.asks()
    now = REMEMBERED_SECONDS
    assert expectations.asks()


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()


CORRUPTED: Final = ["BadDigest", "IncompleteBody", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"]


@pytest.mark.parametrize("code", CORRUPTED)
async def test_bytes_that_came_broken_are_sent_again(either: RawStore, code: str) -> None:
    """The second part and the whole object: each is refused once."""
    left = {2, "whole"}

    def answer(seen: Seen) -> tuple[int, bytes]:
        which = 2 if "partNumber=2" in seen.head.target else "whole" if seen.head.target.endswith("whole") else None
        if which in left:
            left.remove(which)
            return 400, error(code)
        return an_answer(seen)

    either.answer = answer
    async with S3Storage(settings(either)) as storage:
        await parts_and_whole(storage)

    assert [len(seen.body) for seen in puts(either)] == [S3_PART, 1000, 1000, 5000, 5000]


@pytest.mark.parametrize("code", CORRUPTED)
async def test_bytes_that_always_come_broken_are_named(raw: RawStore, code: str) -> None:
    raw.answer = lambda seen: (400, error(code)) if seen.head.method == "PUT" else an_answer(seen)

    async with S3Storage(settings(raw)) as storage:
        with pytest.raises(StorageUnavailable, match=f"400 {code}: the .* on (their|its) way"):
            await whole(storage)

    assert len(puts(raw)) == 3


# -- sent elsewhere


def sent_on(raw: RawStore, location: str, *, status: int = 307, once: bool = True) -> None:
    """Each first request of a kind is sent to ``location``, its own target in place of ``{}``."""

    def goes(seen: Seen) -> bool:
        return not (once and "moved=1" in seen.head.target)

    def answer(seen: Seen) -> tuple[int, bytes]:
        if goes(seen):
            return status, b""
        return an_answer(Seen(Head(seen.head.start.replace("&moved=1", "").replace("?moved=1", ""))))

    raw.answer = answer

    def fields(seen: Seen) -> list[tuple[str, str]]:
        target = seen.head.target
        return (
            [("Location", location.format(target + ("&" if "?" in target else "?") + "moved=1"))] if goes(seen) else []
        )

    raw.fields = fields


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("status", [307, 308])
async def test_a_request_is_sent_on_within_the_store(either: RawStore, absolute: bool, status: int) -> None:
    sent_on(either, (either.url if absolute else "") + "{}", status=status)

    async with S3Storage(settings(either)) as storage:
        await parts_and_whole(storage)

    came = [seen for seen in either.seen if "moved=1" in seen.head.target]
    assert [(seen.head.method, len(seen.body)) for seen in came if seen.head.method == "PUT"] == [
        ("PUT", S3_PART),
        ("PUT", 1000),
        ("PUT", 5000),
    ]
    assert len(came) == 5, "and the two POSTs"
    signatures = [seen.headers["authorization"] for seen in either.seen if seen.head.method != "HEAD"]
    assert len(set(signatures)) == len(signatures) == 10, "each URL is signed by itself"


@pytest.mark.parametrize(
    "elsewhere", ["http://127.0.0.1:1{}", "http://localhost:{port}{{}}", "https://127.0.0.1:{port}{{}}"]
)
async def test_a_request_is_not_sent_to_another_host(raw: RawStore, elsewhere: str) -> None:
    port = raw.url.rpartition(":")[2]
    sent_on(raw, elsewhere.format("{}", port=port) if "{port}" in elsewhere else elsewhere, once=False)

    async with S3Storage(settings(raw)) as storage:
        with pytest.raises(StorageRefused, match=r"answered 307 and sends the request to .*endpoint_url"):
            await whole(storage)

    assert len(puts(raw)) == 1
    assert raw.seen[0].headers["host"] == f"127.0.0.1:{port}"


async def test_a_request_that_is_sent_round_and_round_ends(raw: RawStore) -> None:
    sent_on(raw, "{}", once=False)

    async with asyncio.timeout(10), S3Storage(settings(raw)) as storage:
        with pytest.raises(StorageRefused, match="307"):
            await whole(storage)

    assert len(puts(raw)) < 10
