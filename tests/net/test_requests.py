from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from time import time

import pytest
from yarl import URL

from mediagen.core.errors import (
    ConnectTimeout,
    FetchFailed,
    FetchRefused,
    FirstByteTimeout,
    InvalidRequest,
    UrlNotAllowed,
)
from mediagen.net.requests import _next_hop, error_for_status, get
from mediagen.net.session import Session, guarded_session
from tests.infra.resource import Answer, Break, Resource, busy, redirect_to
from tests.infra.servers.source import SourceServer
from tests.net.conftest import fetch_settings

Get = Callable[[str], "asyncio.Future[int]"]
SETTINGS = fetch_settings()
IMPATIENT = fetch_settings(first_byte_seconds=0.2, connect_seconds=0.2)


@pytest.fixture
async def session(sockets_end: None) -> AsyncIterator[Session]:
    async with guarded_session(SETTINGS) as session:
        yield session


async def status_and_url(session: Session, url: str) -> tuple[int, str]:
    response = await get(session, url, SETTINGS, {"Range": "bytes=0-"})
    try:
        return response.status, str(response.url)
    finally:
        response.close()


# -- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_with_the_same_headers(
    session: Session, source: SourceServer, status: int
) -> None:
    film = source.add("/film", Resource(size=10))
    url = source.redirect("/a", film, hops=10, status=status)

    assert await status_and_url(session, url) == (206, film)
    assert [request.headers["range"] for request in source.log] == ["bytes=0-"] * 11


async def test_one_hop_more_than_allowed_is_refused(session: Session, source: SourceServer) -> None:
    url = source.redirect("/a", source.add("/film", Resource(size=10)), hops=11)

    with pytest.raises(FetchRefused, match="more than 10 times"):
        await get(session, url, SETTINGS, {})
    assert len(source.requests("/film")) == 0


async def test_a_loop_of_redirects_ends(session: Session, source: SourceServer) -> None:
    url = source.redirect("/a", "/a")

    with pytest.raises(FetchRefused, match="redirects more than"):
        await get(session, url, SETTINGS, {})
    assert len(source.requests("/a")) == 11


async def test_no_redirects_when_none_are_allowed(session: Session, source: SourceServer) -> None:
    url = source.redirect("/a", "/film")

    with pytest.raises(FetchRefused):
        await get(session, url, fetch_settings(max_redirects=0), {})


@pytest.mark.parametrize(
    ("location", "lands"),
    [
        ("/deep/film?x=%2Fy#part", "/deep/film?x=%2Fy"),
        ("film", "/deep/film"),
        ("../film", "/film"),
        ("./film?a=b+c", "/deep/film?a=b+c"),
        ("?q=1", "/deep/start?q=1"),
        ("f%c3%afl%20m", "/deep/f%c3%afl%20m"),
        ("f\xc3\xaflm", "/deep/f%C3%AFlm"),
        ("caf\xe9", "/deep/caf%E9"),
        ("my film?a b", "/deep/my%20film?a%20b"),
        ("//127.0.0.1:{port}/x/./../y%2e|", "/y%2e%7C"),
        ("/film?sig=a%2fb%2Bc%3d&p=%7E;x,y", "/film?sig=a%2fb%2Bc%3d&p=%7E;x,y"),
    ],
)
async def test_relative_redirects(session: Session, source: SourceServer, location: str, lands: str) -> None:
    location = location.replace("{port}", str(source.port))
    url = source.add("/deep/start", Resource(always=redirect_to(location)))

    if location == "?q=1":  # the same path: once more with a query
        source.add("/deep/start", Resource(script=[redirect_to(location)], size=1))
    await status_and_url(session, url)

    assert source.log[-1].target == lands


async def test_a_redirect_to_another_host_is_followed_when_it_is_allowed(
    sockets_end: None, source: SourceServer
) -> None:
    settings = fetch_settings(allow_cidrs=["127.0.0.0/30"])
    with SourceServer("127.0.0.2") as other:
        film = other.add("/film", Resource(size=10))
        async with guarded_session(settings) as session:
            response = await get(session, source.redirect("/a", film), settings, {})
            assert (response.status, str(response.url)) == (200, film)
            response.close()


async def test_a_redirect_without_a_place_is_refused(session: Session, source: SourceServer) -> None:
    url = source.add("/a", Resource(always=Answer(302)))

    with pytest.raises(FetchRefused, match="without a Location"):
        await get(session, url, SETTINGS, {})


@pytest.mark.parametrize("status", [300, 304, 305, 306])
async def test_other_answers_of_the_kind_are_no_redirects(session: Session, source: SourceServer, status: int) -> None:
    url = source.add("/a", Resource(always=redirect_to("/film", status)))

    assert (await status_and_url(session, url))[0] == status


def test_a_redirect_from_https_to_http_is_refused() -> None:
    with pytest.raises(UrlNotAllowed, match="https to http"):
        _next_hop(URL("https://example.org/a"), "http://example.org/a")
    assert str(_next_hop(URL("https://example.org/a"), "//example.com/b")) == "https://example.com/b"
    assert str(_next_hop(URL("http://example.org/a"), "https://example.org/a")) == "https://example.org/a"


@pytest.mark.parametrize("location", ["http://[::1", "http://example.org:99999/", "http://[x]/", "ftp:///"])
def test_a_redirect_to_no_url_is_an_error_of_ours(location: str) -> None:
    with pytest.raises((FetchRefused, InvalidRequest)):
        _next_hop(URL("http://example.org/a"), location)


# -- no answer


async def test_nobody_listens(session: Session, source: SourceServer) -> None:
    with SourceServer() as gone:
        url = gone.url("/film")

    with pytest.raises(FetchFailed, match="no connection") as failed:
        await get(session, url, SETTINGS, {})
    assert failed.value.retryable
    assert "127.0.0.1" not in failed.value.detail


async def test_nobody_answers_the_connection(session: Session) -> None:
    async def stays_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stays_silent, "127.0.0.1", 0)
    async with server:
        with pytest.raises(FirstByteTimeout, match=r"within 0\.2 s"):
            await get(session, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", IMPATIENT, {})


async def test_no_connection_in_time(sockets_end: None) -> None:
    """A listener whose queue is full: the kernel lets further connections wait (listen(2))."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        try:
            async with guarded_session(IMPATIENT) as session:
                with pytest.raises(ConnectTimeout, match=r"no connection within 0\.2 s"):
                    await get(session, f"http://127.0.0.1:{listener.getsockname()[1]}/", IMPATIENT, {})
        finally:
            for one in waiting:
                one.close()


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_connection_that_ends_before_the_answer(session: Session, source: SourceServer, how: str) -> None:
    url = source.add("/film", Resource(size=10, breaks=[Break(None, how=how)]))  # type: ignore[arg-type]

    with pytest.raises(FetchFailed, match="before it responded"):
        await get(session, url, SETTINGS, {})


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
async def test_what_is_no_http_is_a_failure_of_the_source(session: Session, garbage: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(garbage)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        with pytest.raises(FetchFailed):
            await get(session, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", SETTINGS, {})


async def test_a_certificate_that_nobody_vouches_for_is_refused(session: Session, tls_source: SourceServer) -> None:
    url = tls_source.add("/film", Resource(size=10))

    with pytest.raises(FetchRefused, match="certificate"):
        await get(session, url, SETTINGS, {})

    assert tls_source.requests("/film") == []


async def test_https_to_a_server_that_speaks_http(session: Session, source: SourceServer) -> None:
    with pytest.raises(FetchFailed):
        await get(session, source.url("/film").replace("http:", "https:"), IMPATIENT, {})


# -- refusals


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        *((status, True) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((status, False) for status in (204, 304, 400, 401, 403, 404, 410, 416, 451, 501, 505)),
    ],
)
async def test_which_statuses_can_be_tried_again(
    session: Session, source: SourceServer, status: int, retryable: bool
) -> None:
    response = await get(session, source.add("/x", Resource(always=Answer(status))), SETTINGS, {})
    response.close()

    error = error_for_status(response)

    assert (error.retryable, error.retry_after) == (retryable, None)
    assert str(status) in error.detail


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [("3", 3, 3), ("in 90 seconds", 60, 91), ("soon", None, None), ("-3", None, None)],
)
async def test_a_refusal_says_how_long_to_wait(
    session: Session, source: SourceServer, value: str, least: float | None, most: float | None
) -> None:
    value = formatdate(time() + 90, usegmt=True) if value == "in 90 seconds" else value
    response = await get(session, source.add("/x", Resource(always=busy(503, value))), SETTINGS, {})
    response.close()

    asked = error_for_status(response).retry_after

    assert asked is None if least is None or most is None else asked is not None and least <= asked <= most
