"""Files of a bucket that pass through us: whole or not at all, and the store's GET lives no longer than its reader."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest

from mediagen.core.files import File
from mediagen.web.files import file_senders as delivery
from tests.infra.s3 import Bucket
from tests.infra.servers.fault_proxy import Exchange, FaultProxyThread
from tests.infra.servers.faults import CutAnswer, StallAnswer, WithoutLength
from tests.infra.servers.radosgw import RadosGW
from tests.web.conftest import DATA, House, Start, in_bucket, stored

LARGE = bytes(range(256)) * 80_000  # 20 MB: more than all the buffers on the way


@pytest.fixture
async def house(start: Start, radosgw: RadosGW, bucket: Bucket, fault_proxy: FaultProxyThread) -> House:
    """A server whose store is behind the fault proxy, and unreachable for clients."""
    s3 = in_bucket(radosgw, bucket, serve="stream", endpoint_url=fault_proxy.url, attempts=2)
    return await start(storage=s3, server={"body_idle_seconds": 0.7})


def gets(proxy: FaultProxyThread) -> list[Exchange]:
    return [entry for entry in proxy.log if entry.method == "GET"]


@contextmanager
def reading(house: House, file: File, *, buffer: int | None = None) -> Iterator[socket.socket]:
    """A client that has asked for a file and reads only what the test reads."""
    with socket.socket() as sock:
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.connect(("127.0.0.1", house.instance.port))
        sock.sendall(f"GET /v1/files/{file.id}/content HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        sock.setblocking(False)
        yield sock


async def until_end(sock: socket.socket) -> int:
    """Bytes that still come."""
    received = 0
    try:
        while chunk := await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
            received += len(chunk)
    except ConnectionResetError:
        pass
    return received


async def fetched(house: House, file: File, **options: Any) -> tuple[int, bytes, Any]:
    async with house.client.get(f"{house.url}/v1/files/{file.id}/content", **options) as answer:
        return answer.status, await answer.read(), answer.headers


async def test_the_headers_are_ours(house: House) -> None:
    file = await stored(house)

    status, body, headers = await fetched(house, file)

    assert (status, body) == (200, DATA)
    assert headers["Content-Type"] == "video/mp4"
    assert headers["Content-Length"] == str(len(DATA))
    assert headers["ETag"] == f'"{file.etag}"'
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Content-Disposition"].startswith('inline; filename="a.mp4"')
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert headers["Cross-Origin-Resource-Policy"] == "same-site"
    assert not [name for name in headers if name.lower().startswith("x-amz")]


async def test_a_range_asks_the_store_for_no_more(house: House, fault_proxy: FaultProxyThread) -> None:
    file = await stored(house, LARGE)
    before = len(gets(fault_proxy))

    status, body, _ = await fetched(house, file, headers={"Range": "bytes=5-9,1000000-1000099"})

    assert status == 206
    assert LARGE[1_000_000:1_000_100] in body
    assert [entry.headers["range"] for entry in gets(fault_proxy)[before:]] == ["bytes=5-9", "bytes=1000000-1000099"]


@pytest.mark.parametrize("stalls", [False, True])
async def test_a_reader_that_goes_lets_go_of_the_store(
    house: House, fault_proxy: FaultProxyThread, stalls: bool
) -> None:
    """Also while nothing comes from the store, which might last for a minute."""
    file = await stored(house, LARGE)
    fault = StallAnswer(after=1_000_000)
    if stalls:
        fault_proxy.add(fault, "GET", file.key)

    with reading(house, file, buffer=65536) as sock:
        received = 0
        while received < (900_000 if stalls else 100_000):
            received += len(await asyncio.get_running_loop().sock_recv(sock, 1 << 16))
    (entry,) = gets(fault_proxy)
    async with asyncio.timeout(5):
        while streams(house):
            await asyncio.sleep(0.02)
        fault_proxy.call(fault.release.set)
        while not entry.ended:
            await asyncio.sleep(0.02)  # the proxy is on a thread of its own

    assert entry.sent < len(LARGE)


async def test_a_reader_that_takes_nothing_is_cut_off(house: House, fault_proxy: FaultProxyThread) -> None:
    file = await stored(house, LARGE)

    with reading(house, file, buffer=65536) as sock:
        async with asyncio.timeout(10):
            while not streams(house):
                await asyncio.sleep(0.02)
            while streams(house):
                await asyncio.sleep(0.02)
        received = await until_end(sock)

    assert received < len(LARGE)
    assert gets(fault_proxy)[0].sent < len(LARGE)


async def test_what_breaks_off_is_taken_up_where_it_broke(house: House, fault_proxy: FaultProxyThread) -> None:
    file = await stored(house, LARGE)
    fault_proxy.add(CutAnswer(after=3_000_000, reset=True), "GET", file.key, times=2)

    status, body, _ = await fetched(house, file)

    assert (status, body == LARGE) == (200, True)
    offsets = [int(entry.headers["range"].split("=")[1].split("-")[0]) for entry in gets(fault_proxy)[1:]]
    assert len(offsets) == 2
    assert 0 < offsets[0] < offsets[1] < 6_000_001


async def test_a_store_that_goes_on_breaking_off_gives_no_half(house: House, fault_proxy: FaultProxyThread) -> None:
    file = await stored(house, LARGE)
    fault_proxy.add(CutAnswer(after=0), "GET", file.key, skip=1)
    fault_proxy.add(CutAnswer(after=3_000_000), "GET", file.key, times=1)

    with pytest.raises(aiohttp.ClientPayloadError):
        await fetched(house, file)

    assert streams(house) == 0


async def test_lost_and_changed_objects_are_never_sent(house: House, bucket: Bucket) -> None:
    lost, changed = await stored(house), await stored(house)
    await bucket.client.delete_object(Bucket=bucket.name, Key=lost.key)
    await bucket.put(changed.key, b"x")

    found = [(await fetched(house, file))[0] for file in (lost, changed)]
    for file in (lost, changed):
        async with house.client.head(f"{house.url}/v1/files/{file.id}/content") as answer:
            found.append(answer.status)
    found.append((await fetched(house, changed, headers={"Range": "bytes=0-9,20-29"}))[0])

    assert found == [404, 500, 404, 500, 500]


async def test_only_so_many_are_sent_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MAX_STREAMS", 1)
    file = await stored(house, LARGE)

    with reading(house, file, buffer=65536) as sock:
        await asyncio.get_running_loop().sock_recv(sock, 100)
        status, _, headers = await fetched(house, file)

    assert (status, headers["Retry-After"]) == (503, "5")
    async with asyncio.timeout(5):
        while (await fetched(house, file))[0] != 200:
            await asyncio.sleep(0.1)


def streams(house: House) -> int:
    """Files on their way through the server."""
    return house.instance.content.streams


async def test_a_store_that_says_no_length_is_believed_the_rows(house: House, fault_proxy: FaultProxyThread) -> None:
    file = await stored(house, LARGE)
    fault_proxy.add(WithoutLength(), "GET|HEAD", file.key)

    assert (await fetched(house, file))[:2] == (200, LARGE)
    status, body, headers = await fetched(house, file, headers={"Range": "bytes=1000000-1000099"})
    assert (status, body, headers["Content-Length"]) == (206, LARGE[1_000_000:1_000_100], "100")
    async with house.client.head(f"{house.url}/v1/files/{file.id}/content") as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(LARGE)))
    assert {entry.fault for entry in gets(fault_proxy)} == {"WithoutLength"}


async def test_chunks_that_end_early_are_gone_on_from(house: House, fault_proxy: FaultProxyThread) -> None:
    """As often as the store gives something; a store that gives nothing more ends the answer."""
    file = await stored(house, LARGE)
    fault_proxy.add(WithoutLength(after=1_000_000), "GET", file.key, times=3)

    assert (await fetched(house, file))[:2] == (200, LARGE)

    fault_proxy.clear()
    fault_proxy.add(WithoutLength(after=1_000_000), "GET", file.key, times=1)
    fault_proxy.add(WithoutLength(after=0), "GET", file.key)
    with pytest.raises(aiohttp.ClientPayloadError):
        await fetched(house, file)
    assert len(gets(fault_proxy)) < 10
