"""Files: metadata, pages, and their bytes by range and condition."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mediagen.core.files import File, FileKind
from tests.infra.s3 import Bucket
from tests.infra.servers.radosgw import RadosGW
from tests.web.conftest import DATA, House, Start, in_bucket, stored


async def content(
    house: House, file: File, method: str = "GET", query: str = "", **headers: str
) -> tuple[int, bytes, Any]:
    wanted = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{house.url}/v1/files/{file.id}/content{query}"
    async with house.client.request(method, url, headers=wanted, allow_redirects=False) as answer:
        return answer.status, await answer.read(), answer.headers


async def test_a_file_is_described(house: House) -> None:
    file = await stored(house)

    status, view, _ = await house.ask("GET", f"/v1/files/{file.id}")

    assert status == 200
    assert view == {
        "id": file.id,
        "object": "file",
        "filename": "a.mp4",
        "bytes": len(DATA),
        "media_type": "video/mp4",
        "kind": "video",
        "sha256": None,
        "checksum": {"algorithm": "crc32", "value": file.checksum.value},
        "width": None,
        "height": None,
        "duration_seconds": None,
        "url": view["url"],
        "url_expires_at": view["url_expires_at"],
        "created_at": view["created_at"],
        "task_id": file.task_id,
        "variants": [],
    }


async def test_files_are_listed_in_pages(house: House) -> None:
    files = [await stored(house, name=f"{number}.mp4") for number in range(3)]

    _, first, _ = await house.ask("GET", "/v1/files?limit=2")
    _, second, _ = await house.ask("GET", f"/v1/files?limit=2&after={first['last_id']}")
    _, none, _ = await house.ask("GET", "/v1/files?kind=image")

    assert [file["id"] for file in first["data"] + second["data"]] == [file.id for file in reversed(files)]
    assert (first["has_more"], second["has_more"], none["data"]) == (True, False, [])


async def test_the_whole_file_comes_with_its_headers(house: House) -> None:
    file = await stored(house)

    status, body, headers = await content(house, file)

    assert (status, body) == (200, DATA)
    assert headers["Content-Type"] == "video/mp4"
    assert headers["Content-Length"] == str(len(DATA))
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["ETag"] == f'"{file.etag}"'
    assert headers["Content-Disposition"] == "inline; filename=\"a.mp4\"; filename*=UTF-8''a.mp4"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert headers["Cross-Origin-Resource-Policy"] == "same-site"


@pytest.mark.parametrize(
    ("wanted", "status", "first", "stop"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=100-", 206, 100, len(DATA)),
        ("bytes=-10", 206, len(DATA) - 10, len(DATA)),
        ("bytes=-999999", 206, 0, len(DATA)),
        ("bytes=10-99999999", 206, 10, len(DATA)),
        ("bytes=0-5,3-9", 206, 0, 10),  # what overlaps is one range
        ("lines=0-1", 200, 0, len(DATA)),
        ("bytes=9-1", 200, 0, len(DATA)),
        ("bytes=x", 200, 0, len(DATA)),
    ],
)
async def test_ranges(house: House, wanted: str, status: int, first: int, stop: int) -> None:
    file = await stored(house)

    answered, body, headers = await content(house, file, Range=wanted)

    assert (answered, body) == (status, DATA[first:stop])
    assert headers.get("Content-Range") == (f"bytes {first}-{stop - 1}/{len(DATA)}" if status == 206 else None)


@pytest.mark.parametrize("wanted", [f"bytes={len(DATA)}-", "bytes=-0"])
async def test_a_range_behind_the_end_is_refused(house: House, wanted: str) -> None:
    file = await stored(house)

    status, _, headers = await content(house, file, Range=wanted)

    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(DATA)}")


async def test_if_range_keeps_old_and_new_bytes_apart(house: House) -> None:
    file = await stored(house)
    modified = format_datetime(file.created_at.replace(microsecond=0), usegmt=True)
    before = format_datetime(file.created_at - timedelta(days=1), usegmt=True)

    statuses = {
        condition: (await content(house, file, Range="bytes=0-9", If_Range=condition))[0]
        for condition in (f'"{file.etag}"', '"other"', f'W/"{file.etag}"', modified, before, "nonsense")
    }

    assert list(statuses.values()) == [206, 200, 200, 206, 200, 200]


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("If-None-Match", '"{etag}"', 304),
        ("If-None-Match", 'W/"{etag}", "x"', 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", '"x"', 200),
        ("If-Match", '"{etag}"', 200),
        ("If-Match", '"x"', 412),
        ("If-Match", 'W/"{etag}"', 412),
        ("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT", 304),
        ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ("If-Modified-Since", "nonsense", 200),
        ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT", 412),
    ],
)
async def test_conditions(house: House, header: str, value: str, status: int) -> None:
    file = await stored(house)

    answered, body, _ = await content(house, file, **{header: value.format(etag=file.etag)})

    assert answered == status
    assert (body == DATA) == (status == 200)


async def test_head_ignores_ranges_and_sends_no_body(house: House) -> None:
    file = await stored(house)

    status, body, headers = await content(house, file, "HEAD", Range="bytes=0-9")

    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(DATA)))


@pytest.mark.parametrize(
    ("media_type", "kind", "inline"),
    [
        ("image/png", FileKind.IMAGE, True),
        ("image/svg+xml", FileKind.IMAGE, False),
        ("text/html", FileKind.OTHER, False),
        ("application/pdf", FileKind.OTHER, False),
        ("audio/mpeg", FileKind.AUDIO, True),
        ("text/html", FileKind.VIDEO, False),
    ],
)
async def test_only_what_cannot_hold_a_script_is_shown(
    house: House, media_type: str, kind: FileKind, inline: bool
) -> None:
    file = await stored(house, b"<script>", media_type, kind, 'a"b\r\n\u00e4.x')

    _, _, headers = await content(house, file)
    _, _, forced = await content(house, file, query="?download=true")

    expected = "inline" if inline else "attachment"
    assert headers["Content-Type"] == (media_type if inline else "application/octet-stream")
    assert headers["Content-Disposition"] == f"{expected}; filename=\"a_b___.x\"; filename*=UTF-8''a%22b%0D%0A%C3%A4.x"
    assert forced["Content-Disposition"].startswith("attachment;")


async def test_an_empty_file_is_sent(house: House) -> None:
    file = await stored(house, b"")

    assert (await content(house, file))[:2] == (200, b"")


async def test_lost_and_changed_bytes_are_never_sent(house: House) -> None:
    lost, changed, link = [await stored(house) for _ in range(3)]
    path_of = house.instance.storage.path_of  # type: ignore[attr-defined]
    Path(path_of(lost.key)).unlink()
    Path(path_of(changed.key)).write_bytes(b"x")
    target = Path(path_of(link.key))
    moved = target.rename(target.with_suffix(".moved"))
    target.symlink_to(moved)

    assert [(await content(house, file))[0] for file in (lost, changed, link)] == [404, 500, 500]


async def test_a_reader_that_takes_nothing_is_cut_off(start: Start) -> None:
    house = await start(server={"body_idle_seconds": 0.2})
    file = await stored(house, bytes(20_000_000))
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", house.instance.port)) as sock:
        sock.setblocking(False)
        await loop.sock_sendall(sock, f"GET /v1/files/{file.id}/content HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await asyncio.sleep(0.6)  # what is tested: nothing is taken for longer than the limit

        received = 0
        while chunk := await loop.sock_recv(sock, 1 << 20):
            received += len(chunk)

    assert received < 20_000_000


async def test_a_reader_that_takes_little_but_goes_on_gets_all(start: Start) -> None:
    """The kernel says that a socket takes more only when much has left it, which can be later than the limit."""
    house = await start(server={"body_idle_seconds": 0.4})
    file = await stored(house, bytes(20_000_000))
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.connect(("127.0.0.1", house.instance.port))
        sock.setblocking(False)
        await loop.sock_sendall(sock, f"GET /v1/files/{file.id}/content HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

        received = 0
        for _ in range(15):
            await asyncio.sleep(0.1)  # what is tested: it takes longer than the limit
            received += len(await loop.sock_recv(sock, 32768))
        while received < 20_000_000:
            chunk = await loop.sock_recv(sock, 1 << 20)
            assert chunk
            received += len(chunk)


async def test_readers_that_go_leave_nothing_open(house: House) -> None:
    file = await stored(house, bytes(20_000_000))
    path = house.instance.storage.path_of(file.key)  # type: ignore[attr-defined]
    loop = asyncio.get_running_loop()

    def descriptors() -> Iterator[str]:
        for number in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # that of the listing itself
                yield os.readlink(f"/proc/self/fd/{number}")

    def open_now() -> tuple[int, int]:
        """Descriptors of the file, and sockets."""
        names = list(descriptors())
        return names.count(path), sum(name.startswith("socket:") for name in names)

    before = await asyncio.to_thread(open_now)
    for wanted in ("bytes=0-", "bytes=0-9,1000-19000000", "bytes=5-5") * 3:
        with socket.create_connection(("127.0.0.1", house.instance.port)) as sock:
            sock.setblocking(False)
            head = f"GET /v1/files/{file.id}/content HTTP/1.1\r\nHost: localhost\r\nRange: {wanted}\r\n\r\n"
            await loop.sock_sendall(sock, head.encode())
            assert (await loop.sock_recv(sock, 100)).startswith(b"HTTP/1.1 206")

    async with asyncio.timeout(5):
        while await asyncio.to_thread(open_now) != before:
            await asyncio.sleep(0.05)  # nothing tells when a connection is gone


async def test_a_bucket_is_answered_by_a_short_link(start: Start, radosgw: RadosGW, bucket: Bucket) -> None:
    house = await start(storage={**in_bucket(radosgw, bucket), "url_ttl_seconds": 60})
    file = await stored(house)

    status, _, headers = await content(house, file)
    head, _, described = await content(house, file, "HEAD")

    assert (status, headers["Cache-Control"]) == (302, "private, no-store")
    assert (head, described["Content-Length"]) == (200, str(len(DATA)))
    async with aiohttp.ClientSession() as other, other.get(headers["Location"]) as answer:
        assert (answer.status, await answer.read(), answer.content_type) == (200, DATA, "video/mp4")
