"""The storage contract on local disk, on S3 over http, and on S3 over TLS: some breaks show over TLS only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contracts.storage import StorageContract
from tests.infra.s3 import Bucket
from tests.infra.servers.radosgw import RadosGW
from tests.storage.places import LocalPlace, S3Place, local_place, s3_place


class TestLocal(StorageContract):
    @pytest.fixture
    async def place(self, tmp_path: Path) -> AsyncIterator[LocalPlace]:
        async with local_place(tmp_path / "media") as place:
            yield place


class TestS3(StorageContract):
    @pytest.fixture
    async def place(self, radosgw: RadosGW, bucket: Bucket) -> AsyncIterator[S3Place]:
        async with s3_place(radosgw, bucket) as place:
            yield place


class TestS3OverTls(StorageContract):
    @pytest.fixture
    async def place(self, radosgw: RadosGW, bucket: Bucket) -> AsyncIterator[S3Place]:
        async with s3_place(radosgw, bucket, endpoint_url=radosgw.tls_endpoint) as place:
            yield place
