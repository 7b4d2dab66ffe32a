"""POST /v1/files: raw bodies and forms; what is refused, and that nothing stays of it. DELETE, and the older paths."""

from __future__ import annotations

import asyncio
import gzip
import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from tests.infra.content import content_bytes, crc32_of, sha256_of
from tests.infra.rawclient import Seen, connected
from tests.streams.formats.files import mp4, png
from tests.web.conftest import House, Start
from tests.web.tasks.test_ingest import in_store

MIB = 1 << 20
SIZE = 20 * MIB + 7
BOUNDARY = "frontier"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


async def pieces(data: bytes, step: int = 300_001) -> AsyncIterator[bytes]:
    """A body whose length is not announced."""
    for start in range(0, len(data), step):
        yield data[start : start + step]


def part(content: bytes, disposition: str = 'name="file"; filename="a.bin"', *headers: str) -> bytes:
    lines = [f"--{BOUNDARY}", f"Content-Disposition: form-data; {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def upload(house: House, data: Any, path: str = "/v1/files", **headers: str) -> tuple[int, Any, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await house.ask("POST", path, data=data, headers=named)


async def listed(house: House) -> list[Any]:
    return list((await house.ask("GET", "/v1/files"))[1]["data"])


async def nothing_is_left(house: House) -> None:
    assert in_store(house) == []
    assert await listed(house) == []


async def soon(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


# -- taken


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("path", ["/v1/files", "/files"])
async def test_a_raw_body_becomes_a_file(house: House, announced: bool, path: str) -> None:
    data = content_bytes(SIZE, 3)

    body = io.BytesIO(data) if announced else pieces(data)
    status, file, headers = await upload(house, body, path, X_Filename="f%C3%BCr%20dich.bin")

    assert (status, headers["Location"]) == (201, f"/v1/files/{file['id']}")
    assert (file["filename"], file["bytes"], file["kind"], file["task_id"]) == ("für dich.bin", SIZE, "other", None)
    assert file["checksum"] == {"algorithm": "crc32", "value": f"{crc32_of(SIZE, 3):08x}"}
    assert file["sha256"] in {None, sha256_of(SIZE, 3)}
    _, again, _ = await house.ask("GET", headers["Location"])
    minted = {"url", "url_expires_at"}  # anew at each look
    assert {name: again[name] for name in again.keys() - minted} == {name: file[name] for name in file.keys() - minted}
    for where in (file["url"], f"{house.url}/files/{file['id']}"):
        async with house.client.get(where) as answer:
            assert await answer.read() == data
    assert len(in_store(house)) == 1


async def test_a_picture_says_its_size(house: House) -> None:
    for body, headers in ((png(), {}), (form(part(png())), FORM)):
        status, file, _ = await upload(house, io.BytesIO(body), **headers)

        assert (status, file["width"], file["height"], file["duration_seconds"]) == (201, 1, 1, None)


async def test_a_form_becomes_a_file(house: House) -> None:
    data = content_bytes(SIZE, 4)
    filled = aiohttp.FormData({"purpose": "test", "note": "x" * 100_000})
    filled.add_field("file", io.BytesIO(data), filename='a "für" b.bin', content_type="application/x-thing")
    filled.add_field("after", "y" * 100_000)

    status, file, _ = await upload(house, filled)

    assert (status, file["bytes"], file["media_type"]) == (201, SIZE, "application/x-thing")
    assert file["filename"] == 'a "für" b.bin'
    async with house.client.get(file["url"]) as answer:
        assert await answer.read() == data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        f"\r\n--{BOUNDARY[:-1]}".encode(),
        b"\r\n--" * 100_000,
        b"\r" * 300_000,
        content_bytes(256 * 1024 - 1) + f"\r\n-{BOUNDARY}".encode() * 30_000,
        b"\r" * 5_000_000,
        f"\r\n--{BOUNDARY[:-1]}".encode() * 400_000,
    ],
    ids=range(8),
)
@pytest.mark.parametrize("announced", [True, False])
async def test_whatever_is_in_a_form_comes_out_of_it(house: House, content: bytes, announced: bool) -> None:
    body = form(part(content))

    status, file, _ = await upload(house, io.BytesIO(body) if announced else pieces(body, 65_537), **FORM)

    assert status == 201, file
    async with house.client.get(file["url"]) as answer:
        assert await answer.read() == content


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b'name="file"; filename="na\xefve \x80.txt"', "naïve €.txt"),
        ('name="file"; filename="naïve €.txt"'.encode(), "naïve €.txt"),
        ('name="file"; filename="Ã© no accent.txt"'.encode(), "Ã© no accent.txt"),
        (b"name=file; filename=my holiday film.txt", "my holiday film.txt"),
        (b"name=file; filename=my film.txt; size=3", "my film.txt"),
        (b'name="file"; filename="C:\\Users\\me\\a.txt"', "a.txt"),
        (b'name="file"; filename="say "hi".txt"', 'say "hi".txt'),
        (b'name="file"; x; filename*=UTF-8\'\'%E2%82%AC.txt; filename="plain.txt"', "€.txt"),
        (b'name="file"; filename*=nonsense; filename="a%22b.txt"', "nonsense"),
        (b'name="file"; filename="' + "\u06cc\u200c\u062e.txt".encode() + b'"', "\u06cc\u200c\u062e.txt"),
    ],
)
async def test_names_of_forms_as_clients_write_them(house: House, disposition: bytes, name: str) -> None:
    body = form(part(b"abc", "DISPOSITION")).replace(b"DISPOSITION", disposition)

    status, file, _ = await upload(house, io.BytesIO(body), **FORM)

    assert (status, file["filename"]) == (201, name)


@pytest.mark.parametrize(
    ("data", "headers", "media_type", "kind", "name"),
    [
        (png(), {"Content-Type": "text/html", "X-Filename": "a.txt"}, "image/png", "image", "a.txt"),
        (mp4(), {}, "video/mp4", "video", None),
        (b"<!doctype html><p>", {"Content-Type": "image/png", "X-Filename": "a.png"}, "text/html", "other", "a.png"),
        (b"abc", {"Content-Type": "text/csv; charset=utf-8"}, "text/csv", "other", None),
        (b"abc", {"Content-Type": "application/x-www-form-urlencoded"}, "application/octet-stream", "other", None),
        (b"abc", {"X-Filename": "a.srt"}, "application/x-subrip", "subtitle", "a.srt"),
        (b"abc", {"X-Filename": "UTF-8'de'%e2%82%ac.txt"}, "text/plain", "other", "€.txt"),
        (b"abc", {"X-Filename": "100%.txt"}, "text/plain", "other", "100%.txt"),
        (b"abc", {"X-Filename": "..%2F..%2Fetc%2Fpass%00wd"}, "application/octet-stream", "other", "passwd"),
        (b"abc", {"X-Filename": "für.txt"}, "text/plain", "other", "für.txt"),
        (b"", {}, "application/octet-stream", "other", None),
    ],
    ids=range(11),
)
async def test_what_it_is_and_what_it_is_called(
    house: House, data: bytes, headers: dict[str, str], media_type: str, kind: str, name: str | None
) -> None:
    headers = {"Content-Type": "application/octet-stream"} | headers

    status, file, _ = await house.ask("POST", "/v1/files", data=data, headers=headers)

    assert (status, file["media_type"], file["kind"], file["bytes"]) == (201, media_type, kind, len(data))
    assert file["filename"] == name or (name is None and file["filename"].startswith(file["id"]))


# -- refused


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (form(part(b"a"), part(b"b")), 400, "more than one field 'file'"),
        (form(part(b"a"), part(b"b", 'name="other"; filename="b"')), 400, "only the field 'file'"),
        (form(part(b"b", 'name="other"; filename="b"'), part(b"a")), 400, "only the field 'file'"),
        (form(part(b"a", 'name="other"')), 400, "no field 'file'"),
        (form(), 400, "no field 'file'"),
        (b"", 400, "body is incomplete"),
        (b"no form at all", 400, "body is incomplete"),
        (form(part(b"a")).replace(b"frontier", b"elsewhere"), 400, "body is incomplete"),
        (part(b"a" * 500_000), 400, "body is incomplete"),
        (part(b"a" * 500_000)[:-7], 400, "body is incomplete"),
        (form(part(b"a"))[:-4], 400, "body is incomplete"),
        (part(b"a")[:50], 400, "body is incomplete"),
        (form(part(b"a", 'filename="x"')), 400, "a name"),
        (form(part(b"a", 'name="file"', "Content-Type: multipart/mixed; boundary=x")), 400, "a name"),
        (form(part(b"a", 'name="file"', "X-Long: " + "y" * 9000)), 400, "body is incomplete"),
        (form(part(b"YQ==", 'name="file"', "Content-Transfer-Encoding: base64")), 415, "Content-Transfer-Encoding"),
        (form(part(b"a", 'name="file"', "Content-Encoding: gzip")), 415, "Content-Encoding"),
        (form(part(b"", 'name="file"; filename=""')), 400, "no file was chosen"),
        (form(*[part(b"", f'name="f{number}"') for number in range(101)], part(b"a")), 400, "100 fields"),
        (b"\r\n" * 3000 + form(part(b"a")), 400, "lines"),
        (form(part(b"x" * 2 * MIB, 'name="note"'), part(b"a")), 413, "besides its file"),
        (form(part(b"a"), part(b"x" * 2 * MIB, 'name="note"')), 413, "besides its file"),
        (form(part(b"a")) + (b"x" * 8000 + b"\n") * 300, 413, "besides its file"),
    ],
    ids=range(23),
)
async def test_a_wrong_form_is_refused_and_leaves_nothing(start: Start, body: bytes, status: int, said: str) -> None:
    house = await start(server={"max_json_bytes": 65_536})

    answered, problem, _ = await upload(house, pieces(body), **FORM)

    assert (answered, said in problem["detail"]) == (status, True), problem
    await nothing_is_left(house)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "multipart/form-data"}, 400),
        ({"Content-Type": f"multipart/form-data; boundary={'x' * 71}"}, 400),
        ({"Content-Type": "multipart/mixed; boundary=x"}, 415),
        ({"X-Filename": "%ff"}, 400),
        ({"X-Filename": "a" * 4097}, 400),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_wrong_headers_are_refused(house: House, headers: dict[str, str], status: int) -> None:
    answered, problem, _ = await house.ask("POST", "/v1/files", data=gzip.compress(b"a"), headers=headers)

    assert answered == status, problem
    await nothing_is_left(house)


@pytest.mark.parametrize(
    ("data", "announced"),
    [
        (b"a" * 3_000_000, True),  # more than any kind may have
        (b"a" * 3_000_000, False),
        (png() + b"a" * 200_000, True),  # more than an image may have
        (png() + b"a" * 200_000, False),
    ],
)
@pytest.mark.parametrize("as_form", [False, True])
async def test_too_much_is_refused_and_leaves_nothing(
    start: Start, data: bytes, announced: bool, as_form: bool
) -> None:
    house = await start(
        limits={"image_bytes": 100_000, "video_bytes": 1_000_000, "file_bytes": 2_000_000},
        server={"max_json_bytes": 4096},
    )
    body, headers = (form(part(data)), FORM) if as_form else (data, {})

    status, problem, answered = await upload(house, io.BytesIO(body) if announced else pieces(body), **headers)

    assert (status, problem["code"], answered["Connection"]) == (413, "too_large", "close")
    await nothing_is_left(house)


def _spoken(port: int, head: str, body: bytes = b"") -> Seen:
    with connected(port) as client:
        client.send(f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n".encode() + body)
        return client.read()


@pytest.mark.parametrize("extra", ["Content-Length: 99999999999", "Content-Length: 5\r\nContent-Encoding: br"])
async def test_no_body_is_invited_that_would_be_refused(house: House, extra: str) -> None:
    seen = await asyncio.to_thread(_spoken, house.instance.port, f"Expect: 100-continue\r\n{extra}\r\n")

    assert seen.status in {413, 415}
    assert b"100 Continue" not in seen.data


async def test_a_body_that_would_be_taken_is_invited(house: House) -> None:
    head = "Expect: 100-continue\r\nContent-Length: 5\r\n"
    seen = await asyncio.to_thread(_spoken, house.instance.port, head, b"12345")

    assert seen.data.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 ")
    assert [file["bytes"] for file in await listed(house)] == [5]


# -- broken


async def begun(house: House, as_form: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An upload whose first bytes are in the store and whose last ones are missing."""
    body = form(part(content_bytes(SIZE))) if as_form else content_bytes(SIZE)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.instance.port)
    head = f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    writer.write((head + (f"Content-Type: {FORM['Content-Type']}\r\n" if as_form else "") + "\r\n").encode())
    writer.write(body[:-1000])
    await writer.drain()
    await soon(lambda: bool(in_store(house)))
    return reader, writer


@pytest.mark.parametrize("as_form", [False, True])
async def test_a_client_that_goes_away_leaves_nothing(house: House, as_form: bool) -> None:
    _, writer = await begun(house, as_form)

    writer.close()
    await writer.wait_closed()

    await soon(lambda: in_store(house) == [])
    await nothing_is_left(house)


@pytest.mark.parametrize("as_form", [False, True])
async def test_a_client_that_stops_sending_leaves_nothing(start: Start, as_form: bool) -> None:
    house = await start(server={"body_idle_seconds": 0.3})
    reader, writer = await begun(house, as_form)

    answer = await reader.readuntil(b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 408 ")
    await nothing_is_left(house)
    writer.close()
    await writer.wait_closed()


async def test_a_stop_in_the_middle_leaves_nothing_after_the_next_start(start: Start) -> None:
    house = await start(server={"drain_seconds": 1})
    _, writer = await begun(house, False)
    await house.stop()
    writer.close()

    again = await start()

    await soon(lambda: in_store(again) == [])
    await nothing_is_left(again)


# -- deleted


async def test_a_deleted_file_is_gone(house: House) -> None:
    _, file, _ = await upload(house, b"abc")
    where = f"/v1/files/{file['id']}"

    async with house.client.delete(house.url + where) as answer:
        assert (answer.status, await answer.read()) == (204, b"")

    for method, path in (
        ("DELETE", where),
        ("GET", where),
        ("GET", f"{where}/content"),
        ("GET", f"/files/{file['id']}"),
    ):
        assert (await house.ask(method, path))[0] == 404
    await nothing_is_left(house)


async def test_a_deletion_that_stopped_half_way_can_be_repeated(house: House) -> None:
    """The row goes last: what is half deleted is still known."""
    _, file, _ = await upload(house, b"abc")
    in_store(house)[0].unlink()

    assert (await house.ask("GET", f"/v1/files/{file['id']}/content"))[0] == 404
    async with house.client.delete(f"{house.url}/v1/files/{file['id']}") as answer:
        assert answer.status == 204
    await nothing_is_left(house)


async def test_the_task_of_a_deleted_file_can_still_be_seen_and_deleted(start: Start) -> None:
    house = await start(real=True)
    _, task, _ = await house.ask("POST", "/v1/ingest", json={"data": "QUJD"})
    file_id = task["result"]["file"]["id"]

    async with house.client.delete(f"{house.url}/v1/files/{file_id}") as answer:
        assert answer.status == 204

    status, seen, _ = await house.ask("GET", f"/v1/tasks/{task['id']}")
    assert (status, seen["status"]) == (200, "completed")
    assert seen["result"] == {"file": {"id": file_id, "object": "file", "deleted": True}}
    assert (await house.ask("DELETE", f"/v1/tasks/{task['id']}?media=true"))[0] == 200


async def test_a_store_that_fails_to_delete_keeps_the_row(house: House) -> None:
    _, file, _ = await upload(house, b"abc")
    (path,) = in_store(house)
    path.unlink()
    path.mkdir()

    status, problem, _ = await house.ask("DELETE", f"/v1/files/{file['id']}")

    assert (status, problem["code"]) == (503, "storage_unavailable")
    assert [known["id"] for known in await listed(house)] == [file["id"]]
