"""Sessions and downloads that are shown to leave no socket open."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from mediagen.net.download import Fetcher
from mediagen.net.retry import RetryPolicy
from mediagen.net.session import guarded_session
from mediagen.net.settings import FetchSettings
from tests.infra.process import need
from tests.infra.servers.source import SourceServer

OpenFetcher = Callable[..., AbstractAsyncContextManager[Fetcher]]


def sockets() -> int:
    """How many sockets this process has open."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return sum(link.startswith("socket:") for link in links)


@pytest.fixture
async def sockets_end(source: SourceServer) -> AsyncIterator[None]:
    """Fails a test that leaves a socket open."""
    before = sockets()
    yield
    end = asyncio.get_running_loop().time() + 2
    while sockets() > before and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.005)  # the source's thread closes its ends
    assert sockets() <= before


def fetch_settings(**changes: Any) -> FetchSettings:
    """Loopback allowed, patience for a busy machine."""
    defaults: dict[str, Any] = {
        "allow_cidrs": (ip_network("127.0.0.1/32"),),
        "connect_seconds": 10.0,
        "first_byte_seconds": 10.0,
        "stall_seconds": 10.0,
    }
    return FetchSettings(**{**defaults, **changes})


@pytest.fixture
def open_fetcher(sockets_end: None) -> OpenFetcher:
    """Opens a fetcher that waits little between its tries; arguments are settings."""

    @asynccontextmanager
    async def opened(tls: ssl.SSLContext | None = None, **changes: Any) -> AsyncIterator[Fetcher]:
        settings = fetch_settings(**changes)
        async with guarded_session(settings, tls=tls) as session:
            fetcher = Fetcher(session, settings)
            fetcher._retry = RetryPolicy(attempts=settings.attempts, base=0.01)
            yield fetcher

    return opened


@pytest.fixture
async def fetcher(open_fetcher: OpenFetcher) -> AsyncIterator[Fetcher]:
    async with open_fetcher() as fetcher:
        yield fetcher


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, its key in the same file."""
    need("openssl")
    folder = tmp_path_factory.mktemp("certificate")
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    files = ("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"))
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    subprocess.run(["openssl", "req", "-x509", *key, *files, "-days", "2", *subject], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return both


@pytest.fixture
def tls_source(certificate: Path, source: SourceServer) -> Iterator[SourceServer]:
    """A scripted source that speaks TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with SourceServer(tls=context) as server:
        yield server


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    """A client's context that trusts the certificate of ``tls_source``."""
    return ssl.create_default_context(cafile=certificate)
