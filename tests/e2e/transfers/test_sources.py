"""What the real server makes of sources that answer oddly."""

from __future__ import annotations

import gzip
import hashlib
import random
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.e2e import leavings
from tests.e2e.api import Api
from tests.e2e.crashes.test_kill_local import _has
from tests.e2e.waiting import becomes
from tests.infra.content import content_bytes, sha256_of
from tests.infra.resource import Resource
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import Request, SourceServer
from tests.streams.formats.files import box, png

pytestmark = pytest.mark.e2e

MIB: Final = 1 << 20
SIZE: Final = 48 * MIB


def _said(status: str, *fields: str, body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def _given(answer: bytes, request: Request) -> bytes:
    return answer


async def test_a_file_whose_source_turns_into_a_liar_after_a_kill_has_the_right_bytes(
    tmp_path: Path, source: SourceServer, chance: random.Random
) -> None:
    url = source.add("/film", Resource(size=SIZE, seed=3, rate=24 * MIB))
    async with Server(tmp_path) as server, Api(server.url) as api:
        task = await api.ingest(url)
        await becomes(partial(_has, server, int(SIZE * chance.uniform(0.1, 0.6))))
        await server.kill9()
        tag = next(request.headers["if-range"] for request in source.log if "if-range" in request.headers)
        whole = content_bytes(SIZE, 3)
        count = 0

        def liar(request: Request) -> bytes:
            nonlocal count
            if request.range is None:
                return _said("200 OK", body=whole)
            count += 1
            first, last = request.range[0], SIZE - 1 if request.range[1] is None else request.range[1]
            fields = (f"Content-Range: bytes {first}-{last}/{SIZE}", f"ETag: {tag}")
            return _said("206 Partial Content", *fields, body=whole if count > 3 else whole[first : last + 1])

        source.add("/film", Resource(raw=liar))
        await server.restart()
        file = await api.completed(task["id"])
        content = await api.content(file)

        assert (content.size, content.sha256) == (SIZE, sha256_of(SIZE, 3))
        leavings.only_here(server, file)


async def test_what_files_are_and_what_they_are_called(tmp_path: Path, source: SourceServer) -> None:
    track = box(b"trak", box(b"mdia", box(b"hdlr", bytes(8) + b"soun" + bytes(13))))
    sound = box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", track) + box(b"mdat", bytes(99))
    packed = gzip.compress(b"a" * 999)
    answers = {
        "/song": (_said("200 OK", 'Content-Disposition: attachment; filename="d\xe9j\xe0 vu.m4a"', body=sound), sound),
        "/pic": (_said("200 OK", "Content-Disposition: attachment; filename=my pic.png", body=png()), png()),
        "/a.tar.gz": (
            _said("200 OK", "Content-Encoding: x-gzip", "Content-Type: application/x-tar", body=packed),
            packed,
        ),
        "/chunk.png": (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: aws-chunked\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n28\r\n" + png()[:40] + b"\r\n0\r\n\r\n",
            png()[:40],
        ),
    }
    wanted = {
        "/song": ("déjà vu.m4a", "audio", "audio/mp4"),
        "/pic": ("my pic.png", "image", "image/png"),
        "/a.tar.gz": ("a.tar.gz", "other", "application/gzip"),
        "/chunk.png": ("chunk.png", "image", "image/png"),
    }
    async with Server(tmp_path) as server, Api(server.url) as api:
        for path, (answer, body) in answers.items():
            url = source.add(path, Resource(raw=partial(_given, answer)))
            file = await api.completed((await api.ingest(url))["id"])
            content = await api.content(file)

            assert (file["filename"], file["kind"], file["media_type"]) == wanted[path]
            assert content.sha256 == hashlib.sha256(body).hexdigest()
