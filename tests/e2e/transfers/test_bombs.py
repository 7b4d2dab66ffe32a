"""Small requests that could become huge: refused or carried out, in memory that stays where it was."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e import leavings
from tests.e2e.api import Api
from tests.e2e.waiting import becomes
from tests.infra.servers.mediagen import Server
from tests.media import bombs
from tests.media.decoders import decoding

pytestmark = pytest.mark.e2e

MIB = 1 << 20
MOST = 48 * MIB
"""Growth that is allowed: a JSON body of the largest size, parsed, and what the allocator keeps of it."""

Bomb = Callable[[Api], Any]


async def refused(api: Api, method: str, path: str, *statuses: int, **options: Any) -> None:
    """The call is refused; a server that has said so may drop the connection before all is sent."""
    try:
        async with api.session.request(method, path, **options) as answer:
            assert answer.status in statuses, await answer.text()
    except aiohttp.ClientConnectionError:
        return


async def gzip_bomb(api: Api) -> None:
    body = gzip.compress(bytes(200 * MIB), 9)
    for path in ("/v1/files", "/v1/ingest"):
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        await refused(api, "POST", path, 415, data=body, headers=headers)


async def deep_json(api: Api) -> None:
    for body in (b"[" * 4_000_000, b'{"a":' * 1_000_000, b'{"url": ' + b"[" * 100 + b"]" * 100 + b"}"):
        for path in ("/v1/ingest", "/v1/tasks/cancel"):
            headers = {"Content-Type": "application/json"}
            await refused(api, "POST", path, 400, data=io.BytesIO(body), headers=headers)


async def wide_json(api: Api) -> None:
    body = json.dumps({"ids": ["x"] * 700_000}).encode()
    await refused(api, "POST", "/v1/tasks/cancel", 400, data=io.BytesIO(body))
    await refused(api, "POST", "/v1/tasks/cancel", 400, 413, data=io.BytesIO(b" " * 40 * MIB))


async def endless_json(api: Api) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"url": "'
        for _ in range(300):
            yield b"a" * MIB

    await refused(api, "POST", "/v1/ingest", 413, data=body(), headers={"Content-Type": "application/json"})


async def much_base64(api: Api) -> None:
    piece = base64.b64encode(bytes(3 * MIB))

    async def body() -> AsyncIterator[bytes]:
        yield b'{"data": "'
        for _ in range(60):
            yield piece
        yield b'"}'

    # 180 MiB of "other" content are no error: they are stored while they come
    async with api.session.post("/v1/ingest", data=body(), headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 202
        task = await answer.json()
    async with api.session.delete(f"/v1/tasks/{task['id']}?media=true") as answer:
        assert answer.status == 200


async def many_fields(api: Api) -> None:
    one = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'

    async def body() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield one * 1000
        yield b"--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    await refused(api, "POST", "/v1/files", 400, 413, data=body(), headers=headers)


async def endless_part_head(api: Api) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"--b\r\n"
        for _ in range(100):
            yield b"X-A: " + b"a" * MIB
        yield b"\r\n\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    await refused(api, "POST", "/v1/files", 400, 413, data=body(), headers=headers)


async def large_frames(api: Api) -> None:
    for _ in range(10):
        async with api.session.ws_connect("/v1/ws") as socket:
            with suppress(ConnectionError):  # it is refused by its head already
                await socket.send_str("x" * (16 * MIB))
            message = await socket.receive()
            assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}


async def many_headers(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    try:
        writer.write(b"GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\n")
        for number in range(20_000):
            writer.write(f"X-{number}: {'a' * 1000}\r\n".encode())
            await writer.drain()
        writer.write(b"\r\n")
        assert b" 4" in await reader.readline()
    except ConnectionError:
        return
    finally:
        writer.close()


async def many_values(api: Api) -> None:
    objects = b'{"ids": [' + b'{"a":1},' * 800_000 + b"1]}"
    keys = b"{" + b",".join(b'"k%d":1' % at for at in range(500_000)) + b"}"
    numbers = b'{"ids": [' + b"1," * 3_000_000 + b"1]}"
    for body in (objects, keys, numbers):
        for path in ("/v1/tasks/cancel", "/v1/ingest", "/v1/images/edits", "/v1/images/generations"):
            await refused(api, "POST", path, 400, data=io.BytesIO(body), headers={"Content-Type": "application/json"})


async def edit(api: Api, picture: bytes) -> int:
    """The status of an edit of a picture by the built-in model."""
    form = aiohttp.FormData({"model": "builtin-poster", "prompt": "x", "size": "256x256"})
    form.add_field("image", io.BytesIO(picture), filename="x.png", content_type="image/png")
    async with api.session.post("/v1/images/edits", data=form) as answer:
        await answer.read()
        return answer.status


async def small_pictures(api: Api) -> None:
    """Seconds and gigabytes each, if they were decoded as they come."""
    for make, statuses in PICTURES.items():
        assert await edit(api, await asyncio.to_thread(make)) in statuses, make.__name__
        async with api.session.get("/livez") as answer:
            assert answer.status == 200


PICTURES: dict[Callable[[], bytes], set[int]] = {
    bombs.wide_png: {400, 415},
    bombs.solid_webp: {200},
    bombs.nested_exif_jpeg: {200},
    bombs.tall_png: {400, 415},
    bombs.long_png: {200},
    bombs.png_text: {200},
    bombs.png_profile: {200},
    bombs.png_exif: {200},
    bombs.webp_exif: {200},
    bombs.png_many_chunks: {400, 415},
    bombs.gif_many_frames: {200},
    bombs.gif_large_canvas: {400, 415},
    bombs.jpeg_many_scans: {400, 415},
    bombs.tiff_tiles: {400, 415},
    bombs.avif_grid: {400, 415},
    bombs.svg: {400, 415},
}

BOMBS: list[Bomb] = [
    gzip_bomb,
    deep_json,
    wide_json,
    endless_json,
    much_base64,
    many_fields,
    endless_part_head,
    large_frames,
    many_headers,
    many_values,
]


async def test_memory_stays_where_it_was(tmp_path: Path) -> None:
    async with Server(tmp_path) as server, Api(server.url) as api:
        await api.call("POST", "/v1/files", data=io.BytesIO(bytes(2 * MIB)))
        before = server.resident_bytes()
        grown: dict[str, int] = {}
        for bomb in BOMBS:
            await bomb(api)
            grown[bomb.__name__] = server.resident_bytes(peak=True) - before

        assert max(grown.values()) < MOST, {name: f"{size / MIB:.1f} MiB" for name, size in grown.items()}
        (file,) = await api.files()
        leavings.only_here(server, file)


async def test_pictures_cost_the_server_nothing(tmp_path: Path) -> None:
    """A process of its own has their cost; the server is alive meanwhile, and as large as an ordinary edit made it."""
    async with Server(tmp_path) as server, Api(server.url) as api:
        assert await edit(api, bombs.png(1024, 1024)) == 200
        before = server.resident_bytes()

        await small_pictures(api)

        grown = server.resident_bytes(peak=True) - before
        assert grown < MOST, f"{grown / MIB:.1f} MiB"


async def test_the_server_answers_while_a_picture_is_decoded(tmp_path: Path) -> None:
    async with Server(tmp_path) as server, Api(server.url) as api:
        assert await edit(api, bombs.png(64, 64)) == 200
        async with asyncio.TaskGroup() as group:
            decoding = [group.create_task(edit(api, bombs.long_png())) for _ in range(4)]
            answered = 0
            while not any(each.done() for each in decoding):
                async with api.session.get("/livez") as answer:
                    answered += answer.status == 200
        assert [each.result() for each in decoding] == [200] * 4
        assert answered >= 10


async def test_a_killed_server_leaves_no_decoder(tmp_path: Path) -> None:
    async with Server(tmp_path) as server, Api(server.url) as api, asyncio.TaskGroup() as group:

        async def lost() -> None:
            with suppress(aiohttp.ClientError):
                await edit(api, bombs.long_png())

        group.create_task(lost())
        await becomes(lambda: bool(decoding(server.pid)))
        left = [Path(f"/proc/{pid}") for pid in server.children]
        await server.kill9()
        await becomes(lambda: not any(path.exists() for path in left))


async def test_a_cancelled_edit_takes_its_decoder_along(tmp_path: Path) -> None:
    async with Server(tmp_path) as server, Api(server.url) as api, asyncio.TaskGroup() as group:

        async def lost() -> None:
            assert await edit(api, bombs.long_png()) >= 400

        group.create_task(lost())
        await becomes(lambda: bool(decoding(server.pid)))
        async with api.session.post("/v1/tasks/cancel", json={"status": "running"}) as answer:
            assert answer.status == 200, await answer.text()
        await becomes(lambda: not decoding(server.pid))
