from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mediagen.core.errors import FetchFailed, FirstByteTimeout, UrlNotAllowed
from mediagen.net.post import MAX_ANSWER, Receipt, post
from mediagen.net.session import Session, guarded_session
from tests.infra.resource import Answer, redirect_to
from tests.infra.servers.receiver import Receiver
from tests.net.conftest import fetch_settings


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with guarded_session(fetch_settings()) as session:
        yield session


async def sent(session: Session, url: str, *, body: bytes = b"{}", seconds: float = 10) -> Receipt:
    return await post(session, url, body, {"X-Mark": "1"}, connect_seconds=5, seconds=seconds)


async def test_the_body_arrives_whole_with_its_length(session: Session) -> None:
    body = b"x" * 3_000_000
    async with Receiver() as receiver:
        assert await sent(session, receiver.url(), body=body) == Receipt(200, None)

        (event,) = receiver.events
        assert (event.body == body, event.headers["content-length"]) == (True, "3000000")
        assert (event.headers["x-mark"], "cookie" in event.headers) == ("1", False)


async def test_a_redirect_is_an_answer_like_any_other(session: Session) -> None:
    async with Receiver() as receiver:
        url = receiver.replies(redirect_to("/other"), Answer(503, {"Retry-After": "7"}))

        assert await sent(session, url) == Receipt(302, None)
        assert await sent(session, url) == Receipt(503, 7.0)
        assert receiver.at("/other") == []


@pytest.mark.parametrize("size", [0, MAX_ANSWER - 1, 5_000_000])
async def test_what_the_answer_says_is_read_up_to_a_limit(session: Session, size: int) -> None:
    async with Receiver() as receiver:
        url = receiver.replies(always=Answer(200, {}, b"x" * size))
        for _ in range(2):
            assert (await sent(session, url)).status == 200

        assert session.client.connector is not None
        kept = sum(len(connections) for connections in session.client.connector._conns.values())
        assert kept == (1 if size < MAX_ANSWER else 0), "a connection is used again when its answer was read"


async def test_no_answer_within_the_limit(session: Session) -> None:
    async with Receiver() as receiver:
        began = asyncio.get_running_loop().time()

        with pytest.raises(FirstByteTimeout):
            await sent(session, receiver.replies("hang"), seconds=0.2)

        assert asyncio.get_running_loop().time() - began < 5


async def test_a_connection_that_breaks(session: Session) -> None:
    async with Receiver() as receiver:
        with pytest.raises(FetchFailed):
            await sent(session, receiver.replies("reset"))


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://127.0.0.2:1/", "ftp://127.0.0.1/", "http://a@127.0.0.1/"])
async def test_what_is_not_allowed_gets_nothing(session: Session, url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        await sent(session, url)
