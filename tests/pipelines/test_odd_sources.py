"""Sources that answer ranges oddly, in both lanes and over a crash: what becomes a file has the right bytes."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from mediagen.core.errors import SourceTruncated
from mediagen.pipelines.saving.saver import RANGES_FROM
from mediagen.streams.base import MIB
from tests.infra.content import content_bytes
from tests.infra.process import need
from tests.infra.resource import Resource
from tests.infra.servers.source import Request, SourceServer
from tests.net.test_odd_answers import ODD, SIZE, WHOLE, Answers, Cut, said
from tests.pipelines.attempts import Attempt
from tests.pipelines.conftest import Recipe
from tests.streams.formats.files import gif, jpeg, mp4, png
from tests.streams.formats.made import made

LARGE: Final = RANGES_FROM + 5 * MIB + 11
FILM: Final = content_bytes(LARGE, 9)
TAG: Final = 'ETag: "v1"'


@pytest.mark.parametrize("name", ODD)
async def test_whatever_a_source_answers_to_ranges_its_bytes_arrive(
    recipe: Recipe, source: SourceServer, name: str
) -> None:
    answers = ODD[name]
    if isinstance(answers, Cut):
        answers = replace(answers, begun=False)

    file = await recipe.run(source.add("/x.bin", Resource(raw=answers)))

    assert recipe.bytes_of(file) == WHOLE
    assert file.bytes == SIZE
    assert recipe.files == [file.key]


def _film(
    *, body: Callable[[int, int], bytes] | None = None, length: int | None = -1, lies_after: int = 0, block: int = LARGE
) -> Answers:
    """A large file by ranges; after ``lies_after`` honest answers the bodies are those of ``body``."""
    count = 0

    def answer(request: Request) -> bytes:
        nonlocal count
        if request.range is None:
            return said("200 OK", TAG, body=FILM)
        count += 1
        first, last = request.range
        last = min(first + block - 1, LARGE - 1 if last is None else last)
        fields = ("Content-Range: " + f"bytes {first}-{last}/{LARGE}", TAG)
        if count <= lies_after or body is None:
            return said("206 Partial Content", *fields, body=FILM[first : last + 1])
        return said("206 Partial Content", *fields, body=body(first, last), length=length)

    return answer


@pytest.mark.parametrize("lies_after", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("length", [-1, None, LARGE])
async def test_a_part_with_the_body_of_the_whole_is_not_taken_in_parallel(
    recipe: Recipe, source: SourceServer, length: int | None, lies_after: int
) -> None:
    url = source.add("/x", Resource(raw=_film(body=lambda first, last: FILM, length=length, lies_after=lies_after)))
    attempt = Attempt()

    file = await recipe.run(url, attempt)

    assert recipe.bytes_of(file) == FILM


@pytest.mark.parametrize("lies_after", [0, 1, 4])
async def test_the_length_of_the_whole_before_a_part_goes_on_to_work(
    recipe: Recipe, source: SourceServer, lies_after: int
) -> None:
    honest = _film(body=lambda first, last: FILM[first : last + 1], length=LARGE, lies_after=lies_after)

    file = await recipe.run(source.add("/x", Resource(raw=honest)))

    assert recipe.bytes_of(file) == FILM


@pytest.mark.parametrize("block", [MIB, 3_000_000])
async def test_a_source_that_gives_a_block_at_a_time_is_read_in_parallel(
    recipe: Recipe, source: SourceServer, block: int
) -> None:
    file = await recipe.run(source.add("/x", Resource(raw=_film(block=block))))

    assert recipe.bytes_of(file) == FILM
    assert file.sha256 is None
    assert len(source.log) < 3 * LARGE // block + 20


@pytest.mark.parametrize("length", [-1, None])
async def test_a_transfer_that_goes_on_after_a_crash_believes_no_more(
    recipe: Recipe, source: SourceServer, length: int | None
) -> None:
    source.add("/x", Resource(size=LARGE, seed=9, rate=16 * MIB, headers={}))
    url = source.url("/x")
    first = Attempt(stopping=True)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(recipe.outcome(url, first))
        await first.reaches(lambda attempt: len(attempt.recorded) >= 1)
        running.cancel()
    tag = next(request for request in source.log if "if-range" in request.headers).headers["if-range"]
    liar = _film(body=lambda first, last: FILM, length=length, lies_after=2)
    source.add("/x", Resource(raw=lambda request: liar(request).replace(b'"v1"', tag.encode())))

    file = await recipe.run(url, first.after_crash())

    assert recipe.bytes_of(file) == FILM
    assert recipe.files == [file.key]


# -- where an answer ends

CUT: Final = {
    "png without IEND": png()[:-12],
    "jpeg without EOI": jpeg()[:-2],
    "gif without its trailer": gif()[:-1],
    "first segment of a film": mp4()[:-72],
    "film with a line behind it": mp4(extra=b"\r\n"),
    "sound of a pipe": b"RIFF\xff\xff\xff\x7fWAVEfmt " + bytes(99),
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("framing", ["chunked", "length", "gzip", "gzip by the connection's end"])
async def test_where_the_framing_proves_the_end_no_format_overrules_it(
    recipe: Recipe, source: SourceServer, name: str, framing: str
) -> None:
    body = CUT[name]
    if framing == "gzip by the connection's end":
        answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(body)
    elif framing == "gzip":
        answer = said("200 OK", "Content-Encoding: gzip", body=gzip.compress(body), length=None)
    else:
        answer = said("200 OK", body=body, length=None if framing == "chunked" else -1)

    file = await recipe.run(source.add("/x", Resource(raw=lambda request: answer)))

    assert recipe.bytes_of(file) == body


@pytest.mark.parametrize("name", ["video.webm", "video.mkv", "sound.webm", "pipe/video.webm", "image.bmp", "sound.ogg"])
async def test_a_file_cut_short_where_the_connection_ends_is_no_file(
    recipe: Recipe, source: SourceServer, name: str
) -> None:
    need("ffmpeg")
    data = made(name)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n"

    source.add("/x", Resource(raw=lambda request: head + data[: len(data) // 2 + 7]))
    with pytest.raises(SourceTruncated):
        await recipe.run(source.url("/x"))
    assert recipe.files == []

    source.add("/x", Resource(raw=lambda request: head + data))
    assert recipe.bytes_of(await recipe.run(source.url("/x"))) == data
