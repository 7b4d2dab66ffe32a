"""An origin of the configuration: where it may lie, and who gets its credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest
from yarl import URL

from mediagen.core.errors import UrlNotAllowed
from mediagen.net.download import Fetcher
from mediagen.net.session import guarded_session
from mediagen.net.settings import FetchSettings
from mediagen.net.trusted_origin import TrustedOrigin, trusted_dialer
from mediagen.streams.sources import read_chunks
from tests.infra.resource import Break, Resource
from tests.infra.servers.source import SourceServer

LOOPBACK = ip_network("127.0.0.1/32")


@pytest.fixture
def elsewhere() -> Iterator[SourceServer]:
    with SourceServer() as server:
        yield server


@asynccontextmanager
async def fetching(source: SourceServer, **settings: Any) -> AsyncIterator[tuple[Fetcher, TrustedOrigin]]:
    limits = FetchSettings(**settings)
    async with guarded_session(limits) as guarded, trusted_dialer(limits) as dialer:
        origin = TrustedOrigin(URL(source.url("/v1")), dialer, {"Authorization": "Bearer k"})
        yield Fetcher(guarded, limits), origin


async def read(fetcher: Fetcher, url: str, trusted: TrustedOrigin | None = None) -> bytes:
    async with fetcher.open(url, trusted=trusted) as download:
        return b"".join([chunk async for chunk in read_chunks(download.sequential())])


def keys(source: SourceServer, path: str) -> set[str | None]:
    return {request.headers.get("authorization") for request in source.requests(path)}


async def test_it_may_be_where_no_other_url_may_lead(source: SourceServer) -> None:
    url = source.add("/film", Resource(body=b"film"))

    async with fetching(source) as (fetcher, origin):
        assert await read(fetcher, url, origin) == b"film"
        with pytest.raises(UrlNotAllowed):
            await read(fetcher, url)

    assert keys(source, "/film") == {"Bearer k"}


async def test_what_is_denied_is_denied_to_it_too(source: SourceServer) -> None:
    url = source.add("/film", Resource(body=b"film"))

    async with fetching(source, deny_cidrs=(LOOPBACK,)) as (fetcher, origin):
        with pytest.raises(UrlNotAllowed):
            await read(fetcher, url, origin)


async def test_a_redirect_elsewhere_carries_no_credentials(source: SourceServer, elsewhere: SourceServer) -> None:
    target = elsewhere.add("/film", Resource(body=b"film"))
    url = source.redirect("/content", target)

    async with fetching(source, allow_cidrs=(LOOPBACK,)) as (fetcher, origin):
        assert await read(fetcher, url, origin) == b"film"
    async with fetching(source) as (fetcher, origin):
        with pytest.raises(UrlNotAllowed):
            await read(fetcher, url, origin)

    assert keys(source, "/content") == {"Bearer k"}
    assert keys(elsewhere, "/film") == {None}


async def test_a_redirect_back_carries_them(source: SourceServer) -> None:
    source.add("/film", Resource(body=b"film"))
    url = source.redirect("/content", "/film", hops=2)

    async with fetching(source) as (fetcher, origin):
        assert await read(fetcher, url, origin) == b"film"

    assert keys(source, "/film") == {"Bearer k"}


async def test_a_broken_download_goes_on_with_them(source: SourceServer) -> None:
    resource = Resource(size=3_000_000, seed=4, breaks=[Break(after=1_000_000, how="rst", times=1)])
    url = source.add("/film", resource)

    async with fetching(source) as (fetcher, origin):
        data = await read(fetcher, url, origin)

    assert len(data) == 3_000_000
    assert len(source.requests("/film")) > 1
    assert keys(source, "/film") == {"Bearer k"}


async def test_its_credentials_are_not_shown(source: SourceServer) -> None:
    async with fetching(source) as (_, origin):
        assert "Bearer" not in repr(origin)
