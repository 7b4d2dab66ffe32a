"""Media that comes as base64: in the request itself, and in the JSON that a URL gives."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api, File, Refused
from tests.infra.content import content_bytes, crc32_of, sha256_of
from tests.infra.resource import Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20
SIZE = 50_000_000
HEADERS = {"Content-Type": "application/json"}


async def pieces(data: bytes, step: int = 300_001) -> AsyncIterator[bytes]:
    """A body of a length that is not announced."""
    for start in range(0, len(data), step):
        yield data[start : start + step]


async def is_whole(api: Api, file: File, bucket: Bucket | None) -> None:
    assert file["bytes"] == SIZE
    assert file["checksum"]["value"] == f"{crc32_of(SIZE):08x}"
    assert file["sha256"] in (None, sha256_of(SIZE))
    if bucket is None:
        assert (await api.content(file)).sha256 == sha256_of(SIZE)
    else:
        (key,) = await bucket.keys()
        assert await bucket.sha256(key) == sha256_of(SIZE)


@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_fifty_megabytes_in_the_request(tmp_path: Path, bucket: Bucket, backend: str) -> None:
    text = base64.b64encode(content_bytes(SIZE))
    body = b'{"filename": "a.bin", "data": "' + text + b'", "kind": "other"}'
    settings = configuration.s3(bucket) if backend == "s3" else {}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        task = await api.call("POST", "/v1/ingest", data=pieces(body), headers=HEADERS)

        assert (task["status"], task["progress"]) == ("completed", 100)
        assert task["request"] == {"filename": "a.bin", "kind": "other", "data": f"[{SIZE} bytes]"}
        file: File = task["result"]["file"]
        assert (file["filename"], file["task_id"]) == ("a.bin", task["id"])
        await is_whole(api, file, bucket if backend == "s3" else None)
        assert text[:200].decode() not in server.log.read_text()
        if backend == "s3":
            await leavings.only(bucket, file)
        else:
            leavings.only_here(server, file)


@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_fifty_megabytes_in_the_answer_of_a_url(
    tmp_path: Path, source: SourceServer, bucket: Bucket, backend: str
) -> None:
    text = base64.b64encode(content_bytes(SIZE))
    document = (
        b'{"created": 1, "data": [{"b64_json": "aaaa"}, {"a/b": "data:video/mp4;base64,' + text + b'"}], "x": {}}'
    )
    url = source.add("/answer", Resource(body=document, media_type="application/json"))
    settings = configuration.s3(bucket) if backend == "s3" else {}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        task = await api.ingest(url, field="/data/1/a~1b", filename="a.bin")
        file = await api.completed(task["id"])

        await is_whole(api, file, bucket if backend == "s3" else None)
        if backend == "s3":
            await leavings.only(bucket, file)
        else:
            leavings.only_here(server, file)


@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_a_wrong_letter_in_the_middle(tmp_path: Path, bucket: Bucket, backend: str) -> None:
    text = bytearray(base64.b64encode(content_bytes(20 * MIB)))
    text[15_000_001] = ord("*")
    settings = configuration.s3(bucket) if backend == "s3" else {}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        body = b'{"data": "' + bytes(text) + b'"}'
        with pytest.raises(Refused) as refused:
            await api.call("POST", "/v1/ingest", data=pieces(body), headers=HEADERS)

        assert (refused.value.status, refused.value.code) == (400, "invalid_base64")
        assert "15000001" in refused.value.problem["detail"]
        assert (await api.tasks(), await api.files()) == ([], [])
        leavings.only_here(server)
        await leavings.only(bucket)


async def test_a_wrong_letter_in_the_answer_of_a_url(tmp_path: Path, source: SourceServer) -> None:
    text = base64.b64encode(content_bytes(3 * MIB)).replace(b"A", b"*", 1)
    url = source.add("/answer", Resource(body=b'{"image": "' + text + b'"}', media_type="application/json"))
    nothing = source.add("/nothing", Resource(body=b'{"other": 1}', media_type="application/json"))
    async with Server(tmp_path) as server, Api(server.url) as api:
        task = await api.ended((await api.ingest(url, field="/image"))["id"])
        assert task["error"] is not None
        assert (task["status"], task["error"]["code"]) == ("failed", "invalid_base64")
        assert (task["error"]["retryable"], len(source.requests("/answer"))) == (False, 1)
        task = await api.ended((await api.ingest(nothing, field="/image"))["id"])
        assert task["error"] is not None
        assert (task["status"], task["error"]["code"]) == ("failed", "invalid_request")
        leavings.only_here(server)


async def test_requests_that_are_wrong_beside_their_content(tmp_path: Path) -> None:
    bodies = (
        b'{"data": "QUJD", "url": "http://127.0.0.1/"}',
        b'{"data": "QUJD", "colour": "red"}',
        b'{"data": "QUJD", "kind": "image"}',
        b'{"data": "QUJD"',
        b'{"data": "QUJD"} {}',
        b'{"data": "QUJD", "data": "QUJE"}',
        b'{"data": 7}',
        b"[]",
        b"",
    )
    async with Server(tmp_path) as server, Api(server.url) as api:
        for body in bodies:
            with pytest.raises(Refused) as refused:
                await api.call("POST", "/v1/ingest", data=body, headers=HEADERS)
            assert refused.value.status in (400, 415), body

        assert (await api.tasks(), await api.files()) == ([], [])
        leavings.only_here(server)


async def test_data_uris_and_small_content(tmp_path: Path) -> None:
    png = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    given: dict[str, Any] = {"data": "data:image/png;base64," + base64.b64encode(png).decode()}
    async with Server(tmp_path) as server, Api(server.url) as api:
        task = await api.call("POST", "/v1/ingest", json=given)

        file: File = task["result"]["file"]
        assert (file["media_type"], file["kind"], file["bytes"]) == ("image/png", "image", len(png))
        assert file["sha256"] == hashlib.sha256(png).hexdigest()
        leavings.only_here(server, file)
