"""Requests to an S3 store as they are on the wire."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from mediagen.core.errors import StorageUnavailable, TooLarge
from mediagen.storage.s3.storage import S3Storage
from mediagen.storage.settings import S3Settings
from mediagen.streams.base import MIB, Body, PartReceipt
from mediagen.streams.digest import crc32
from mediagen.streams.parts import BufferBody, RangeBody
from tests.contracts.uploads import ABOUT, KEY, BytesReader, Readings, buffered, commit, put_parts, ranged, the_bytes
from tests.infra.s3 import Bucket
from tests.infra.servers.fault_proxy import FaultProxy
from tests.infra.servers.radosgw import RadosGW
from tests.storage.places import S3_PART, s3_place
from tests.storage.rawstore import NAMESPACE, RawStore, an_answer

SIZE = 3 * MIB + 77


def settings(store: RawStore, **changes: Any) -> S3Settings:
    given: dict[str, Any] = {
        "bucket": "films",
        "endpoint_url": store.url,
        "access_key_id": "key",
        "secret_access_key": SecretStr("secret"),
        "part_bytes": S3_PART,
        "attempts": 2,
    }
    return S3Settings(**{**given, **changes})


@pytest.fixture
async def raw() -> AsyncIterator[RawStore]:
    async with RawStore() as store:
        yield store


def body_of(lane: str, data: bytes) -> Body:
    if lane == "buffer":
        return BufferBody(memoryview(data))
    return RangeBody(BytesReader(data), 0, len(data), meter=Readings(None).meter)


@pytest.mark.parametrize("lane", ["buffer", "range"])
async def test_bodies_go_out_unsigned_with_their_exact_length(
    radosgw: RadosGW, bucket: Bucket, tls: ssl.SSLContext | None, lane: str
) -> None:
    data = the_bytes(SIZE)

    async with (
        FaultProxy("127.0.0.1", radosgw.port, tls=tls) as proxy,
        s3_place(radosgw, bucket, endpoint_url=proxy.url) as place,
    ):
        async with place.storage.open_sink(KEY, **ABOUT, size=None, parallel=True) as sink:
            await sink.begin()
            await commit(sink, [await sink.put_part(1, body_of(lane, data))])
        async with place.storage.open_sink("videos/whole", **ABOUT, size=SIZE) as sink:
            await sink.put_whole(body_of(lane, data))
            await sink.commit([], size=SIZE, crc32=0)
        exchanges = [entry for entry in proxy.log if entry.method == "PUT"]

    assert await bucket.read(f"mediagen/{KEY}") == data
    assert await bucket.read("mediagen/videos/whole") == data
    assert len(exchanges) == 2
    for exchange in exchanges:
        headers = exchange.headers
        assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert (headers["content-length"], exchange.received) == (str(SIZE), SIZE)
        assert headers["expect"] == "100-continue"
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256 ")
        for name in ("transfer-encoding", "content-encoding", "x-amz-trailer", "x-amz-decoded-content-length"):
            assert name not in headers
        assert not [name for name in headers if "checksum" in name]
    assert (await bucket.head("mediagen/videos/whole"))["ContentType"] == "video/mp4"


async def test_payloads_are_signed_when_asked_for(radosgw: RadosGW, bucket: Bucket) -> None:
    data = the_bytes(S3_PART + 5)

    async with (
        FaultProxy("127.0.0.1", radosgw.port) as proxy,
        s3_place(radosgw, bucket, endpoint_url=proxy.url, sign_payload=True) as place,
    ):
        async with place.storage.open_sink(KEY, **ABOUT, size=len(data)) as sink:
            assert not sink.accepts_ranges
            await buffered(sink, data)
        hashes = [entry.headers["x-amz-content-sha256"] for entry in proxy.log if entry.method == "PUT"]

    assert await bucket.read(f"mediagen/{KEY}") == data
    assert sorted(hashes) == sorted(hashlib.sha256(piece).hexdigest() for piece in (data[:S3_PART], data[S3_PART:]))


def crc_header(data: bytes) -> str:
    """Base64 of the four bytes, most significant first (S3 API reference, "Checking object integrity")."""
    return base64.b64encode(crc32(data).to_bytes(4, "big")).decode()


async def test_checksums_where_the_store_takes_them(raw: RawStore) -> None:
    data = the_bytes(S3_PART + 5)
    pieces = [data[:S3_PART], data[S3_PART:]]

    async with S3Storage(settings(raw, checksum="crc32")) as storage:
        async with storage.open_sink(KEY, **ABOUT, size=len(data)) as sink:
            await buffered(sink, data)
        async with storage.open_sink(KEY, **ABOUT, size=0) as sink:
            await buffered(sink, b"")
    create, *parts, complete, whole = raw.seen

    assert create.headers["x-amz-checksum-algorithm"] == "CRC32"
    assert create.headers["x-amz-meta-mediagen-token"] == ABOUT["token"]
    assert create.headers["content-type"] == "video/mp4"
    assert {part.headers["x-amz-checksum-crc32"]: bytes(part.body) for part in parts} == {
        crc_header(piece): piece for piece in pieces
    }
    assert all("x-amz-trailer" not in part.headers for part in parts)
    assert re.findall(r"<ChecksumCRC32>(.*?)<", complete.body.decode()) == [crc_header(piece) for piece in pieces]
    assert re.findall(r"<PartNumber>(.*?)<", complete.body.decode()) == ["1", "2"]
    assert whole.headers["x-amz-checksum-crc32"] == "AAAAAA=="


async def test_no_checksum_of_what_cannot_be_read_ahead(raw: RawStore) -> None:
    data = the_bytes(2 * S3_PART)

    async with (
        S3Storage(settings(raw, checksum="crc32")) as storage,
        storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink,
    ):
        await sink.begin()
        await commit(sink, await put_parts(sink, data, [1, 2]))

    for seen in raw.seen:
        assert not [name for name in seen.headers if "checksum" in name]
    assert b"Checksum" not in raw.seen[-1].body
    assert b"".join(bytes(seen.body) for seen in raw.seen[1:3]) == data


@pytest.mark.parametrize(
    ("endpoint", "choice", "expected"),
    [
        ("", "auto", True),
        ("https://s3.eu-central-1.amazonaws.com", "auto", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", "auto", True),
        ("https://account.r2.cloudflarestorage.com", "auto", False),
        ("http://127.0.0.1:9000", "auto", False),
        ("https://amazonaws.com.example.org", "auto", False),
        ("http://127.0.0.1:9000", "crc32", True),
        ("", "none", False),
    ],
)
def test_which_stores_get_checksums(endpoint: str, choice: Any, expected: bool) -> None:
    settings = S3Settings(bucket="b", endpoint_url=endpoint, checksum=choice)

    assert settings.sends_checksums is expected


async def test_a_refusal_costs_no_bytes(either: RawStore) -> None:
    """With ``Expect: 100-continue`` a busy store says so before the source is read."""
    data = the_bytes(SIZE)
    either.expectation = "final"
    either.answer = lambda seen: (503, b"") if seen.head.method == "PUT" else an_answer(seen)
    reader = BytesReader(data)

    async with (
        S3Storage(settings(either)) as storage,
        storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink,
    ):
        await sink.begin()
        with pytest.raises(StorageUnavailable, match="503"):
            await sink.put_part(1, ranged(data, 1, SIZE, reader))

    puts = [seen for seen in either.seen if seen.head.method == "PUT"]
    assert (len(puts), [len(seen.body) for seen in puts]) == (2, [0, 0])
    assert reader.seeks == []


async def test_a_store_that_accepts_and_never_reads(either: RawStore) -> None:
    data = the_bytes(8 * MIB)
    either.expectation = "deaf"
    impatient = settings(either, answer_seconds=1.5, minimum_bytes_per_second=1 << 30, attempts=2)

    async with S3Storage(impatient) as storage, storage.open_sink(KEY, **ABOUT, size=len(data)) as sink:
        with pytest.raises(StorageUnavailable, match="did not answer"):
            await sink.put_whole(BufferBody(memoryview(data)))

    assert len([seen for seen in either.seen if seen.head.method == "PUT"]) == 2


NONSENSE = [
    (200, b""),
    (200, b"<html><body>Sign in to the network</body></html>"),
    (200, b"\x1f\x8b\x00 no xml at all"),
    (204, b""),
    (301, b""),
    (502, b"<html>Bad Gateway</html>"),
    (418, b"{}"),
]


@pytest.mark.parametrize(("status", "body"), NONSENSE)
async def test_answers_of_something_else_are_failures_of_the_store(either: RawStore, status: int, body: bytes) -> None:
    """A captive portal, a proxy, somebody else's server under the same address."""
    either.answer, either.etag = lambda _: (status, body), False

    async with S3Storage(settings(either)) as storage:
        async with storage.open_sink(KEY, **ABOUT, size=None) as sink:
            with pytest.raises(StorageUnavailable):
                await sink.begin()
        with pytest.raises(StorageUnavailable):
            await resumed(storage)
        if status > 299:
            with pytest.raises(StorageUnavailable):
                await storage.check()
    assert len(either.seen) < 30


async def resumed(storage: S3Storage) -> None:
    state = {"key": KEY, "token": "x" * 8, "part_size": S3_PART, "upload_id": "up"}
    async with storage.open_sink(KEY, **ABOUT, size=9, resume=state) as sink:
        assert not sink.stored
        await sink.put_part(1, BufferBody(memoryview(b"123456789")))
        await sink.commit([], size=9, crc32=0)


def listing(numbers: range, *, following: int | None) -> bytes:
    """An answer to ListParts; ``following`` is the marker of the next page."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><Size>7</Size><ETag>&quot;e{number}&quot;</ETag></Part>"
        for number in numbers
    )
    more = f"<IsTruncated>{'false' if following is None else 'true'}</IsTruncated>"
    marker = "" if following is None else f"<NextPartNumberMarker>{following}</NextPartNumberMarker>"
    return f'<ListPartsResult xmlns="{NAMESPACE}">{more}{marker}{parts}</ListPartsResult>'.encode()


STATE: dict[str, Any] = {"key": KEY, "token": ABOUT["token"], "part_size": S3_PART, "upload_id": "up-1"}


async def test_all_pages_of_parts_are_read(raw: RawStore) -> None:
    pages = [listing(range(1, 1001), following=1000), listing(range(1001, 1501), following=None)]
    raw.answer = lambda seen: (200, pages[len(raw.seen) - 1]) if seen.head.method == "GET" else an_answer(seen)

    async with S3Storage(settings(raw)) as storage, storage.open_sink(KEY, **ABOUT, size=None, resume=STATE) as sink:
        stored = dict(sink.stored)
        sink.detach()

    assert sorted(stored) == list(range(1, 1501))
    assert stored[1500] == PartReceipt(7, '"e1500"')
    assert [re.findall(r"part-number-marker=(\d+)", seen.head.target) for seen in raw.seen] == [["0"], ["1000"]]


async def test_a_store_that_lists_in_circles_is_left(raw: RawStore) -> None:
    raw.answer = lambda _: (200, listing(range(1, 1001), following=1000))

    async with S3Storage(settings(raw)) as storage:
        with pytest.raises(StorageUnavailable, match="again and again"):
            async with storage.open_sink(KEY, **ABOUT, size=None, resume=STATE):
                pass

    assert len(raw.seen) == 2


async def test_no_part_beyond_the_last_that_s3_takes(raw: RawStore) -> None:
    async with S3Storage(settings(raw)) as storage, storage.open_sink(KEY, **ABOUT, size=None) as sink:
        await sink.begin()
        await sink.put_part(10_000, BufferBody(memoryview(b"x")))
        with pytest.raises(TooLarge, match="10000 parts"):
            await sink.put_part(10_001, BufferBody(memoryview(b"x")))

    assert [seen.head.method for seen in raw.seen] == ["POST", "PUT", "DELETE", "GET"]


@pytest.mark.parametrize(
    ("size", "parallel", "part_size"),
    [
        (None, False, S3_PART),
        (0, False, S3_PART),
        (100 * MIB, False, S3_PART),
        (60_000 * MIB, False, 6 * MIB),
        (100 * MIB, True, S3_PART),
        (1024 * MIB, True, 32 * MIB),
        (4096 * MIB, True, 64 * MIB),
        (5 * 1024 * 1024 * MIB, True, 525 * MIB),
    ],
)
async def test_part_sizes(raw: RawStore, size: int | None, parallel: bool, part_size: int) -> None:
    async with (
        S3Storage(settings(raw)) as storage,
        storage.open_sink(KEY, **ABOUT, size=size, parallel=parallel) as sink,
    ):
        assert sink.part_size == part_size
        assert size is None or -(-size // sink.part_size) <= 10_000

    assert raw.seen == [], "opening a sink asks for nothing"


@pytest.mark.parametrize(("style", "in_path"), [("auto", True), ("always", True), ("never", False)])
async def test_where_the_bucket_is_named(raw: RawStore, style: Any, in_path: bool) -> None:
    endpoint = raw.url.replace("127.0.0.1", "localhost")

    async with S3Storage(settings(raw, endpoint_url=endpoint, path_style=style, prefix="media/")) as storage:
        url = await storage.presign(KEY, ttl=60, filename="x", media_type="video/mp4", inline=True)
        outside = urlsplit(url)

    expected = ("localhost", f"/films/media/{KEY}") if in_path else ("films.localhost", f"/media/{KEY}")
    assert (outside.hostname, outside.path) == expected
