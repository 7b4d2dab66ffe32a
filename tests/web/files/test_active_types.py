"""What can hold a script is never shown, whatever it claims to be, however it came in and wherever it is read."""

from __future__ import annotations

import asyncio
import io
import zipfile
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.infra.resource import Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.radosgw import RadosGW
from tests.infra.servers.source import SourceServer
from tests.streams.formats.files import gif, png
from tests.web.conftest import House, Start, in_bucket

SCRIPT: Final = b"<script>alert(document.domain)</script>"


def epub() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("index.html", SCRIPT)
    return made.getvalue()


ACTIVE: Final[Mapping[str, bytes]] = {
    "page.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "page.html": b"<!DOCTYPE html><html>" + SCRIPT,
    "bare.html": b"hello " + SCRIPT,
    "wide.html": ("\ufeff" + SCRIPT.decode()).encode("utf-16-le"),
    "page.xhtml": b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body onload="alert(1)"/></html>',
    "page.xml": b'<?xml version="1.0"?><?xml-stylesheet href="x.xsl"?><a/>',
    "page.pdf": b"%PDF-1.7\n1 0 obj<</S/JavaScript/JS(app.alert(1))>>",
    "page.js": b"alert(document.domain)//",
    "page.swf": b"FWS\x08" + bytes(40),
    "page.mhtml": b"MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=x\r\n\r\n--x\r\n" + SCRIPT,
    "page.epub": epub(),
}
POLYGLOTS: Final[Mapping[str, bytes]] = {
    "gif.html": gif() + b"<!--" + SCRIPT,
    "gifjs.html": b"GIF89a/*" + SCRIPT + b"*/=1;alert(1)",
    "png.html": png() + SCRIPT,
    "mp4.html": b"<!--ftypisom-->" + SCRIPT,
}
CLAIMS: Final = ("image/png", "image/svg+xml", "text/html", "video/mp4", "application/xhtml+xml", "text/javascript", "")
HARMLESS: Final = {"image/gif": b"GIF8", "image/png": b"\x89PNG", "video/mp4": b"<!--ftyp"}
"""Types that a browser takes for nothing but a picture or a film when it must not sniff, and how their bytes begin."""


async def by_body(house: House, name: str, data: bytes, claim: str, _source: object) -> dict[str, Any]:
    headers = {"X-Filename": name, "Content-Type": claim or "application/octet-stream"}
    status, file, _ = await house.ask("POST", "/v1/files", data=io.BytesIO(data), headers=headers)
    assert status == 201, file
    return dict(file)


async def by_base64(house: House, name: str, data: bytes, claim: str, _source: object) -> dict[str, Any]:
    text = f"data:{claim or 'application/octet-stream'};base64,{b64encode(data).decode()}"
    status, task, _ = await house.ask("POST", "/v1/ingest", json={"data": text, "filename": name})
    assert status == 202, task
    return dict(task["result"]["file"])


async def by_url(house: House, name: str, data: bytes, claim: str, source: SourceServer) -> dict[str, Any]:
    path = f"/{quote(claim, safe='')}/{name}"
    url = source.add(path, Resource(body=data, media_type=claim or "application/octet-stream"))
    task_id = await house.submit(url=url, filename=name)
    task = await house.ended(task_id)
    assert task["status"] == "completed", task
    return dict(task["result"]["file"])


def check_is_harmless(name: str, data: bytes, headers: Mapping[str, str], where: str) -> None:
    kind, shown = headers["Content-Type"], headers["Content-Disposition"].partition(";")[0]
    if name in POLYGLOTS and kind in HARMLESS:
        assert data.startswith(HARMLESS[kind]), (name, kind, where)
        return
    assert (kind, shown) == ("application/octet-stream", "attachment"), (name, where)


@pytest.mark.parametrize(
    ("bring", "serve"),
    [(by_body, "stream"), (by_base64, "redirect"), (by_url, "stream")],
    ids=["body", "base64", "url"],
)
async def test_active_content_is_nowhere_shown(
    start: Start, radosgw: RadosGW, bucket: Bucket, source: SourceServer, bring: Any, serve: str
) -> None:
    house = await start(
        real=True,
        storage=in_bucket(radosgw, bucket, serve=serve),
        fetch={"allow_cidrs": ["127.0.0.0/8"]},
        tasks={"lanes": {"ingest": 8}},
    )

    async def one(name: str, data: bytes, claim: str) -> str:
        file = await bring(house, name, data, claim, source)
        for where in (f"{house.url}/v1/files/{file['id']}/content", f"{house.url}/files/{file['id']}", file["url"]):
            async with house.client.get(where) as answer:
                assert (answer.status, await answer.read()) == (200, data)
                check_is_harmless(name, data, answer.headers, f"{claim} at {where}")
                if serve == "stream":
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        return str(file["id"])

    for name, data in {**ACTIVE, **POLYGLOTS}.items():
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(one(name, data, claim)) for claim in CLAIMS]
        new = [key for key in await bucket.keys() if any(file.result() in key for file in made)]
        assert len(new) == len(CLAIMS)
        for raw in [await bucket.head(key) for key in new]:
            there = {"Content-Type": raw["ContentType"], "Content-Disposition": raw["ContentDisposition"]}
            check_is_harmless(name, data, there, "in the bucket")
            assert raw["CacheControl"] == "public, max-age=86400, immutable"


async def test_large_objects_say_the_same(start: Start, radosgw: RadosGW, bucket: Bucket) -> None:
    """Those that come in parts, where the store is told before the first of them."""
    house = await start(real=True, storage=in_bucket(radosgw, bucket, part_bytes=5 << 20))
    page, film = ACTIVE["page.html"] + bytes(6 << 20), b"\0\0\0\x20ftypisom" + bytes(6 << 20)

    for name, data in (("Größe.html", page), ("Größe.mp4", film)):
        await by_body(house, name, data, "video/mp4", None)

    said = {}
    for key in await bucket.keys():
        raw = await bucket.head(key)
        said[raw["ContentType"]] = raw["ContentDisposition"]
        assert raw["CacheControl"] == "public, max-age=86400, immutable"
        assert raw["ETag"].strip('"').endswith("-2")
    assert said == {
        "application/octet-stream": "attachment; filename=\"Gr__e.html\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.html",
        "video/mp4": "inline; filename=\"Gr__e.mp4\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.mp4",
    }


async def test_what_only_claims_to_be_a_picture_is_not_shown_from_disk_either(start: Start) -> None:
    house = await start(real=True)
    file = await by_body(house, "a.png", ACTIVE["page.js"], "image/png", None)

    assert (file["media_type"], file["kind"]) == ("image/png", "image")
    async with house.client.get(file["url"]) as answer:
        check_is_harmless("a.png", b"", answer.headers, "on disk")
