"""A store that wants signed payloads gets buffered parts, also from a source that has ranges."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from pydantic import SecretStr

from mediagen.pipelines.ingest import IngestPipeline, IngestSpec
from mediagen.pipelines.saving.placement import StoreContext
from mediagen.pipelines.saving.saver import Saver
from mediagen.pipelines.settings import LimitsSettings
from mediagen.storage.s3.storage import S3Storage
from mediagen.storage.settings import S3Settings
from mediagen.streams.base import MIB
from mediagen.streams.pool import BufferPool
from tests.infra.content import content_bytes
from tests.infra.resource import Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.radosgw import RadosGW
from tests.infra.servers.source import SourceServer
from tests.net.conftest import OpenFetcher
from tests.pipelines.attempts import Attempt

SIZE = 20 * MIB


async def test_signed_payloads_are_buffered(
    radosgw: RadosGW, bucket: Bucket, source: SourceServer, open_fetcher: OpenFetcher, hashing: ThreadPoolExecutor
) -> None:
    settings = S3Settings(
        bucket=bucket.name,
        endpoint_url=radosgw.endpoint,
        access_key_id=radosgw.admin.access_key,
        secret_access_key=SecretStr(radosgw.admin.secret_key),
        sign_payload=True,
    )
    url = source.add("/film", Resource(size=SIZE, seed=3))

    async with open_fetcher() as fetcher, S3Storage(settings) as storage:
        store = StoreContext(storage, BufferPool(64 * MIB), hashing, LimitsSettings(), "always")
        outcome = await IngestPipeline(Saver(fetcher, store, store.pool)).run(IngestSpec(url=url), Attempt())

    (file,) = outcome.files
    wanted = hashlib.sha256(content_bytes(SIZE, 3)).hexdigest()
    assert file.sha256 == wanted
    assert await bucket.sha256(file.key) == wanted
    assert await bucket.uploads() == []
