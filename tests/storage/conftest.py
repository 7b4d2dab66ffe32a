"""Fixtures of the storage tests."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from functools import lru_cache
from pathlib import Path

import pytest
from aiobotocore.session import AioSession

from mediagen.storage.s3 import storage as s3
from tests.infra.s3 import Bucket, s3_client
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.radosgw import RadosGW
from tests.storage.places import LocalPlace, S3Place, local_place, s3_place, server_tls
from tests.storage.rawstore import RawStore

BUCKET = "storage-tests"


@lru_cache(maxsize=1)
def _session() -> AioSession:
    return AioSession()


@pytest.fixture(autouse=True)
def one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """One session of the S3 library for the run: each new one reads the description of the service for a second."""
    monkeypatch.setattr(s3, "get_session", _session)


@pytest.fixture
async def bucket(radosgw: RadosGW) -> AsyncIterator[Bucket]:
    """The one bucket of these tests, empty; making one for each would take longer than most of them."""
    async with s3_client(radosgw) as client:
        await client.create_bucket(Bucket=BUCKET)  # again and again is no error here
        bucket = Bucket(radosgw, BUCKET, client)
        yield bucket
        await bucket.empty()


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalPlace]:
    """A store on local disk."""
    async with local_place(tmp_path / "media") as place:
        yield place


@pytest.fixture
async def s3_store(radosgw: RadosGW, bucket: Bucket) -> AsyncIterator[S3Place]:
    """A store in a bucket of radosgw, over http."""
    async with s3_place(radosgw, bucket) as place:
        yield place


@pytest.fixture
async def broken(radosgw: RadosGW, bucket: Bucket, fault_proxy: FaultProxyThread) -> AsyncIterator[S3Place]:
    """A store behind the fault proxy; what is seen of it is seen past the proxy."""
    async with s3_place(radosgw, bucket, endpoint_url=fault_proxy.url) as place:
        yield place


@pytest.fixture(params=["http", "tls"])
def tls(request: pytest.FixtureRequest, radosgw: RadosGW) -> ssl.SSLContext | None:
    """A server's context, once over http and once over TLS."""
    return None if request.param == "http" else server_tls(radosgw)


@pytest.fixture
async def either(
    tls: ssl.SSLContext | None, radosgw: RadosGW, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RawStore]:
    """A store that checks nothing, over http and over TLS; the environment says whom to trust."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(radosgw.certificate))
    async with RawStore(tls=tls) as store:
        yield store
