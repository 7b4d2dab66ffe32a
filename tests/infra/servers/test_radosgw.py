"""The S3 store does what the tests of the storage room rely on."""

import asyncio
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.infra.content import content_bytes, crc32_of, sha256_of
from tests.infra.s3 import Bucket, s3_client
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.faults import LostAnswer, slow_down
from tests.infra.servers.radosgw import RadosGW

MIB = 1 << 20


@pytest.mark.parametrize("tls", [False, True])
async def test_multipart_upload(radosgw: RadosGW, bucket: Bucket, tls: bool) -> None:
    size = 6 * MIB
    whole = content_bytes(size)
    names = {"Bucket": bucket.name, "Key": "big"}

    async with s3_client(radosgw, endpoint=radosgw.tls_endpoint if tls else radosgw.endpoint) as client:
        names["UploadId"] = (await client.create_multipart_upload(**names))["UploadId"]
        parts: list[dict[str, Any]] = []
        for number, body in enumerate((whole[: 5 * MIB], whole[5 * MIB :]), 1):
            answer = await client.upload_part(**names, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        (upload,) = await bucket.uploads()
        stored = await bucket.parts(upload)
        hidden = await bucket.keys()
        await client.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})

    assert [(part.number, part.size) for part in stored] == [(1, 5 * MIB), (2, MIB)]
    assert hidden == []
    assert await bucket.keys() == ["big"]
    assert await bucket.uploads() == []
    assert await bucket.sha256("big") == sha256_of(size)
    assert await bucket.crc32("big") == crc32_of(size)


async def test_a_bucket_is_emptied(bucket: Bucket) -> None:
    await bucket.put("a/b", b"1")
    await bucket.client.create_multipart_upload(Bucket=bucket.name, Key="open")

    await bucket.empty()

    assert (await bucket.keys(), await bucket.uploads()) == ([], [])


async def test_the_limited_user_may_do_nothing(radosgw: RadosGW, bucket: Bucket) -> None:
    await bucket.put("secret", b"1")

    async with s3_client(radosgw, radosgw.limited) as client:
        with pytest.raises(ClientError, match="AccessDenied"):
            await client.get_object(Bucket=bucket.name, Key="secret")


async def test_lifecycle_rule_aborts_an_old_upload(radosgw: RadosGW, bucket: Bucket) -> None:
    rule = {
        "ID": "abort",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    rules = {"Rules": [rule]}
    await bucket.client.put_bucket_lifecycle_configuration(Bucket=bucket.name, LifecycleConfiguration=rules)
    await bucket.client.create_multipart_upload(Bucket=bucket.name, Key="old")

    async with asyncio.timeout(30):
        while await bucket.uploads():
            await asyncio.to_thread(radosgw.run_lifecycle)

    assert await bucket.keys() == []


async def test_signatures_stay_valid_through_the_proxy(
    radosgw: RadosGW, bucket: Bucket, fault_proxy: FaultProxyThread
) -> None:
    fault_proxy.add(slow_down(), "PUT", "/key", times=1)
    fault_proxy.add(LostAnswer(), "PUT", "/key", times=1)

    async with s3_client(radosgw, endpoint=fault_proxy.url) as client:
        await client.put_object(Bucket=bucket.name, Key="key", Body=b"value")

    assert [entry.fault for entry in fault_proxy.log] == ["Status", "LostAnswer", None]
    assert await bucket.read("key") == b"value"
