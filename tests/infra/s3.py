"""A bucket per test, and what a test asks about the objects in it."""

from __future__ import annotations

import hashlib
import uuid
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from tests.infra.servers.radosgw import RadosGW, User

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class Part:
    """A stored part of an open upload."""

    number: int
    size: int
    etag: str


@lru_cache(maxsize=1)
def _session() -> AioSession:
    """One session for the run: it keeps botocore's service description, which takes long to load."""
    return AioSession()


@asynccontextmanager
async def s3_client(store: RadosGW, user: User | None = None, *, endpoint: str | None = None) -> AsyncIterator[Any]:
    """A plain aiobotocore client of ``store``, as ``admin`` and over http unless told otherwise."""
    user = user or store.admin
    config = AioConfig(
        s3={"addressing_style": "path"},
        connect_timeout=5,
        read_timeout=30,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    async with _session().create_client(
        "s3",
        endpoint_url=endpoint or store.endpoint,
        region_name=store.region,
        aws_access_key_id=user.access_key,
        aws_secret_access_key=user.secret_key,
        verify=str(store.certificate),
        config=config,
    ) as client:
        yield client


class Bucket:
    """A bucket of a test's own. ``client`` is the aiobotocore client for everything that has no method here."""

    def __init__(self, store: RadosGW, name: str, client: Any) -> None:
        self.store = store
        self.name = name
        self.client = client

    async def keys(self) -> list[str]:
        """Keys of all objects, sorted."""
        found: list[str] = []
        async for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name):
            found += [entry["Key"] for entry in page.get("Contents", [])]
        return sorted(found)

    async def uploads(self) -> list[OpenUpload]:
        """Multipart uploads that take room although no object shows it."""
        found: list[OpenUpload] = []
        async for page in self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.name):
            found += [OpenUpload(entry["Key"], entry["UploadId"]) for entry in page.get("Uploads", [])]
        return found

    async def parts(self, upload: OpenUpload) -> list[Part]:
        """Parts stored so far, by number."""
        found: list[Part] = []
        pages = self.client.get_paginator("list_parts").paginate(
            Bucket=self.name, Key=upload.key, UploadId=upload.upload_id
        )
        async for page in pages:
            found += [Part(entry["PartNumber"], entry["Size"], entry["ETag"]) for entry in page.get("Parts", [])]
        return found

    async def head(self, key: str) -> dict[str, Any]:
        """What HeadObject answers."""
        answer: dict[str, Any] = await self.client.head_object(Bucket=self.name, Key=key)
        return answer

    async def put(self, key: str, body: bytes, **options: Any) -> None:
        """Store an object."""
        await self.client.put_object(Bucket=self.name, Key=key, Body=body, **options)

    async def chunks(self, key: str) -> AsyncIterator[bytes]:
        """An object's bytes, 1 MiB at a time."""
        answer = await self.client.get_object(Bucket=self.name, Key=key)
        async with answer["Body"] as body:
            while chunk := await body.read(CHUNK):
                yield chunk

    async def read(self, key: str) -> bytes:
        """A small object whole."""
        return b"".join([chunk async for chunk in self.chunks(key)])

    async def sha256(self, key: str) -> str:
        """Counted from the stored bytes."""
        digest = hashlib.sha256()
        async for chunk in self.chunks(key):
            digest.update(chunk)
        return digest.hexdigest()

    async def crc32(self, key: str) -> int:
        """Counted from the stored bytes."""
        crc = 0
        async for chunk in self.chunks(key):
            crc = zlib.crc32(chunk, crc)
        return crc

    async def empty(self) -> None:
        """Abort all uploads and delete all objects."""
        for upload in await self.uploads():
            await self.client.abort_multipart_upload(Bucket=self.name, Key=upload.key, UploadId=upload.upload_id)
        for key in await self.keys():
            await self.client.delete_object(Bucket=self.name, Key=key)


@asynccontextmanager
async def temporary_bucket(store: RadosGW) -> AsyncIterator[Bucket]:
    """A new bucket that is emptied and deleted at the end."""
    name = f"t-{uuid.uuid4().hex[:16]}"
    async with s3_client(store) as client:
        await client.create_bucket(Bucket=name)
        bucket = Bucket(store, name, client)
        try:
            yield bucket
        finally:
            await bucket.empty()
            await client.delete_bucket(Bucket=name)
