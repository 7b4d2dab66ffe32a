"""The stores under test, and what can be seen of them from outside."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from mediagen.storage.local.storage import LocalStorage
from mediagen.storage.s3.storage import S3Storage
from mediagen.storage.settings import S3Settings
from mediagen.streams.base import MIB
from tests.infra.s3 import Bucket
from tests.infra.servers.radosgw import RadosGW

S3_PART = 5 * MIB
LOCAL_PART = 8 * MIB


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """Fits ``tests.contracts.storage.Place``."""

    root: Path
    storage: LocalStorage
    part_size: int = LOCAL_PART

    async def keys(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if not path.is_dir() and path.parent.name != ".uploads"
        )

    async def unfinished(self) -> list[str]:
        return [path.name for path in (self.root / ".uploads").iterdir()]

    @asynccontextmanager
    async def reopened(self) -> AsyncIterator[LocalStorage]:
        async with LocalStorage(self.root) as storage:
            yield storage


@asynccontextmanager
async def local_place(root: Path) -> AsyncIterator[LocalPlace]:
    async with LocalStorage(root) as storage:
        yield LocalPlace(root, storage)


@dataclass(frozen=True, slots=True)
class S3Place:
    """Fits ``tests.contracts.storage.Place``."""

    bucket: Bucket
    storage: S3Storage
    part_size: int = S3_PART

    async def keys(self) -> list[str]:
        prefix = self.storage.settings.prefix
        return [key.removeprefix(prefix) for key in await self.bucket.keys()]

    async def unfinished(self) -> list[str]:
        return [upload.key for upload in await self.bucket.uploads()]

    @asynccontextmanager
    async def reopened(self) -> AsyncIterator[S3Storage]:
        async with S3Storage(self.storage.settings) as storage:
            yield storage


def s3_settings(store: RadosGW, bucket: Bucket, /, **changes: Any) -> S3Settings:
    """Settings for ``bucket``, over http unless ``endpoint_url`` says otherwise. Impatient, so that tests are quick."""
    given: dict[str, Any] = {
        "bucket": bucket.name,
        "prefix": "mediagen/",
        "endpoint_url": store.endpoint,
        "region": store.region,
        "access_key_id": store.admin.access_key,
        "secret_access_key": SecretStr(store.admin.secret_key),
        "ca_file": str(store.certificate),
        "part_bytes": S3_PART,
        "attempts": 3,
    }
    return S3Settings(**{**given, **changes})


@asynccontextmanager
async def s3_place(store: RadosGW, bucket: Bucket, /, **changes: Any) -> AsyncIterator[S3Place]:
    async with S3Storage(s3_settings(store, bucket, **changes)) as storage:
        yield S3Place(bucket, storage)


def server_tls(store: RadosGW) -> ssl.SSLContext:
    """A server's context with the certificate of ``store``, for localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(store.certificate, store.private_key)
    return context
