"""What an S3 store refuses for good, said in words for the operator."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest
from pydantic import SecretStr

from mediagen.core.errors import (
    MediagenError,
    StorageFull,
    StorageRefused,
    StorageUnavailable,
    TooLarge,
)
from mediagen.storage.s3.storage import S3Storage
from tests.contracts.uploads import (
    KEY,
    put,
    read,
    the_bytes,
)
from tests.infra.s3 import Bucket
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.faults import (
    Fault,
    s3_error,
)
from tests.infra.servers.listener import Listener
from tests.infra.servers.radosgw import RadosGW
from tests.storage.faulty import (
    CREATE,
    PART,
    SIZE,
    WHOLE,
    cleared,
    struck,
    through_buffers,
)
from tests.storage.places import S3Place, s3_settings

# -- what no second try can help


REFUSALS: Final[list[tuple[Fault, type[MediagenError], str]]] = [
    (s3_error(403, "RequestTimeTooSkewed"), StorageRefused, "clock"),
    (s3_error(400, "EntityTooLarge"), TooLarge, "size"),
    (s3_error(403, "QuotaExceeded"), StorageFull, "QuotaExceeded"),
    (s3_error(507, "InsufficientStorage"), StorageFull, "507"),
    (s3_error(403, "AccessDenied"), StorageRefused, "credentials may not"),
    (s3_error(400, "AuthorizationHeaderMalformed"), StorageRefused, "region"),
    (s3_error(400, "InvalidArgument"), StorageRefused, "InvalidArgument"),
]


@pytest.mark.parametrize("request_", [CREATE, PART, WHOLE], ids=["create", "part", "whole"])
async def test_a_refusal_is_said_in_words_for_the_operator(
    broken: S3Place, fault_proxy: FaultProxyThread, request_: tuple[str, str]
) -> None:
    for fault, error, words in REFUSALS:
        fault_proxy.add(fault, *request_)

        with pytest.raises(error, match=words) as caught:
            await through_buffers(broken.storage, the_bytes(1000 if request_ == WHOLE else SIZE))

        assert not caught.value.retryable
        assert (words, struck(fault_proxy)) == (words, 1)
        assert (words, await broken.keys(), await broken.unfinished()) == (words, [], [])
        await cleared(broken, fault_proxy)


LIMITED_SECRET: Final = "limited-secret-key-00000000000000000"


async def everything_refused(storage: S3Storage, words: str) -> None:
    with pytest.raises(StorageRefused, match=words):
        await put(storage, b"x")
    with pytest.raises(StorageRefused, match=words):
        await read(storage, KEY)
    with pytest.raises(StorageRefused):
        await storage.check()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"secret_access_key": SecretStr("wrong")}, "secret_access_key"),
        ({"access_key_id": "UNKNOWNKEY"}, "access_key_id"),
        ({"bucket": "no-such-bucket"}, "storage.s3.bucket"),
        (
            {
                "access_key_id": "LIMITEDACCESSKEY000",
                "secret_access_key": SecretStr("limited-secret-key-00000000000000000"),
            },
            "may not",
        ),
    ],
    ids=["secret", "key", "bucket", "rights"],
)
async def test_wrong_settings_are_named(radosgw: RadosGW, bucket: Bucket, changes: dict[str, Any], words: str) -> None:
    async with S3Storage(s3_settings(radosgw, bucket, **changes)) as storage:
        await everything_refused(storage, words)


async def test_a_certificate_that_nobody_vouches_for_is_refused(radosgw: RadosGW, bucket: Bucket) -> None:
    async with S3Storage(s3_settings(radosgw, bucket, endpoint_url=radosgw.tls_endpoint, ca_file="")) as storage:
        await everything_refused(storage, "ca_file")


async def test_without_a_bucket_the_store_does_not_open() -> None:
    from mediagen.storage.settings import S3Settings

    with pytest.raises(StorageRefused, match=r"storage\.s3\.bucket"):
        async with S3Storage(S3Settings()):
            pass


async def test_a_store_that_is_not_there_is_tried_again(radosgw: RadosGW, bucket: Bucket) -> None:
    """As while it is restarted."""
    listener = Listener(lambda *_: asyncio.sleep(0))
    await listener.open()
    await listener.close()
    nobody = f"http://127.0.0.1:{listener.port}"

    async with S3Storage(s3_settings(radosgw, bucket, endpoint_url=nobody, attempts=2)) as storage:
        for call in (storage.check(), storage.head(KEY), put(storage, b"x")):
            with pytest.raises(StorageUnavailable, match="no connection") as caught:
                await call
            assert caught.value.retryable
