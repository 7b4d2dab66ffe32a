"""Bodies to the store over connections of our own: what the storage makes of their failures."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest
from pydantic import SecretStr

from mediagen.core.errors import FetchFailed, FetchRefused, StorageRefused, StorageUnavailable
from mediagen.storage.s3.calls import translate_error
from mediagen.storage.s3.storage import S3Storage
from mediagen.storage.s3.uploader import StoreUnreachable
from mediagen.storage.settings import S3Settings
from mediagen.streams.base import MIB, Body
from mediagen.streams.parts import BufferBody
from tests.contracts.uploads import ABOUT, KEY, BytesReader, ranged, the_bytes
from tests.infra.servers.http_messages import read_head, send
from tests.infra.servers.listener import Listener
from tests.infra.servers.radosgw import RadosGW
from tests.storage.places import S3_PART, server_tls
from tests.storage.rawstore import RawStore

DATA = the_bytes(3 * MIB + 7)


def settings(url: str, **changes: Any) -> S3Settings:
    given: dict[str, Any] = {
        "bucket": "films",
        "endpoint_url": url,
        "access_key_id": "key",
        "secret_access_key": SecretStr("secret"),
        "part_bytes": S3_PART,
        "attempts": 1,
    }
    return S3Settings(**{**given, **changes})


async def whole(storage: S3Storage, body: Body) -> None:
    async with storage.open_sink(KEY, **ABOUT, size=len(body)) as sink:
        await sink.put_whole(body)
        await sink.commit([], size=len(body), crc32=0)


def puts(store: RawStore) -> list[bytes]:
    return [bytes(seen.body) for seen in store.seen if seen.head.method == "PUT"]


async def test_a_store_that_is_not_reached_leaves_no_doubt() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with S3Storage(settings(f"http://127.0.0.1:{bound.getsockname()[1]}")) as storage:
            with pytest.raises(StorageUnavailable, match="no connection to the store"):
                await whole(storage, BufferBody(memoryview(DATA)))
            assert not storage.in_doubt(KEY)


def test_why_a_store_was_not_reached_is_told() -> None:
    exc = StoreUnreachable(endpoint_url="https://store", error=ConnectionRefusedError(111, "refused"))

    assert "ConnectionRefusedError" in str(translate_error(exc, 1).context["reason"])


async def test_a_store_that_is_not_trusted_leaves_no_doubt(radosgw: RadosGW) -> None:
    async with RawStore(tls=server_tls(radosgw)) as store, S3Storage(settings(store.url)) as storage:
        with pytest.raises(StorageRefused, match="certificate is not trusted"):
            await whole(storage, BufferBody(memoryview(DATA)))
        assert not storage.in_doubt(KEY)


@pytest.mark.parametrize("failure", [FetchFailed("the source broke"), FetchRefused("the source refuses")])
async def test_what_stops_the_source_is_raised_as_it_is(either: RawStore, failure: FetchFailed) -> None:
    reader = BytesReader(DATA, fail_at=MIB)
    reader.failure = failure
    async with S3Storage(settings(either.url)) as storage:
        with pytest.raises(type(failure)) as raised:
            await whole(storage, ranged(DATA, 1, len(DATA), reader))

    assert raised.value is failure


@pytest.mark.parametrize("lane", ["buffer", "range"])
async def test_a_store_that_leaves_after_each_answer_costs_no_try(
    radosgw: RadosGW, tls: ssl.SSLContext | None, lane: str
) -> None:
    """It closes when it sees the head of a second request, or before: no byte of the body has gone then."""
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        assert head is not None
        if head.method == "PUT":
            await send(writer, b"HTTP/1.1 100 Continue\r\n\r\n")
            bodies.append(await reader.readexactly(int(head.get("Content-Length") or 0)))
        await send(writer, b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n')
        await reader.read(1)

    listener = Listener(serve, tls=tls)
    await listener.open()
    try:
        url = f"{'https' if tls else 'http'}://localhost:{listener.port}"
        async with S3Storage(settings(url, ca_file=str(radosgw.certificate))) as storage:
            for _ in range(5):
                body = BufferBody(memoryview(DATA)) if lane == "buffer" else ranged(DATA, 1, len(DATA))
                await whole(storage, body)
    finally:
        await listener.close()

    assert bodies == [DATA] * 5


async def test_uploads_share_connections(either: RawStore) -> None:
    async with S3Storage(settings(either.url)) as storage:
        for _ in range(4):
            await whole(storage, BufferBody(memoryview(DATA)))

    assert puts(either) == [DATA] * 4
    assert len({seen.connection for seen in either.seen}) == 1
