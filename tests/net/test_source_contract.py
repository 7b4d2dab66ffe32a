"""Downloads keep the contract of sources, whatever the framing, over TCP and over TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mediagen.streams.base import RangeSource, Source
from tests.contracts.source import RangeSourceContract, SourceContract
from tests.infra.resource import Resource
from tests.infra.servers.source import SourceServer
from tests.net.conftest import OpenFetcher


class Downloads:
    """How downloads are opened; a subclass says of what."""

    server: SourceServer
    open_fetcher: OpenFetcher
    tls: ssl.SSLContext | None = None
    served: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed

    @asynccontextmanager
    async def opened(self, data: bytes) -> AsyncIterator[Any]:
        url = self.server.add("/x", Resource(body=data, **self.served))
        async with self.open_fetcher(tls=self.tls) as fetcher, fetcher.open(url) as download:
            yield self.view(download)

    def view(self, download: Any) -> Source | RangeSource:
        source: Source = download.sequential()
        return source


class Plain(Downloads):
    @pytest.fixture(autouse=True)
    def over_tcp(self, source: SourceServer, open_fetcher: OpenFetcher) -> None:
        self.server, self.open_fetcher = source, open_fetcher


class Encrypted(Downloads):
    @pytest.fixture(autouse=True)
    def over_tls(self, tls_source: SourceServer, open_fetcher: OpenFetcher, trusting: ssl.SSLContext) -> None:
        self.server, self.open_fetcher, self.tls = tls_source, open_fetcher, trusting


class TestResumable(Plain, SourceContract):
    knows_its_size = True


class TestOfKnownLength(Plain, SourceContract):
    knows_its_size = True
    served = {"ranges": "no"}  # noqa: RUF012


class TestUntilTheEnd(Plain, SourceContract):
    served = {"ranges": "no", "framing": "close"}  # noqa: RUF012


class TestChunked(Plain, SourceContract):
    served = {"ranges": "no", "framing": "chunked"}  # noqa: RUF012


class TestCompressed(Plain, SourceContract):
    served = {"gzip": True}  # noqa: RUF012


class TestEncrypted(Encrypted, SourceContract):
    knows_its_size = True


class TestEncryptedUntilTheEnd(Encrypted, SourceContract):
    served = {"ranges": "no", "framing": "close"}  # noqa: RUF012


class Ranges(Downloads):
    def view(self, download: Any) -> RangeSource:
        ranges: RangeSource = download
        return ranges


class TestRanges(Ranges, Plain, RangeSourceContract):
    """Of a plain source."""


class TestEncryptedRanges(Ranges, Encrypted, RangeSourceContract):
    """Of one that speaks TLS."""
