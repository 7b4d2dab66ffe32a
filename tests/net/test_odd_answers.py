"""What sources answer to ranges that is not quite what was asked for: right bytes arrive, or none."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import pytest

from mediagen.core.errors import (
    FetchFailed,
    FetchRefused,
    RangesUnreliable,
    SourceChanged,
    SourceTruncated,
    UnsupportedMedia,
)
from mediagen.net.download import Fetcher
from mediagen.streams.base import MIB
from tests.infra.content import content_bytes
from tests.infra.resource import Resource
from tests.infra.servers.source import Request, SourceServer
from tests.net.test_download import downloaded

SIZE: Final = 700_000
WHOLE: Final = content_bytes(SIZE, 3)
TAG: Final = ('ETag: "v1"',)

Answers = Callable[[Request], bytes]


def said(status: str, *fields: str, body: bytes = b"", length: int | None = -1) -> bytes:
    """An answer; ``length`` -1: that of the body; None: chunked."""
    lines = [f"HTTP/1.1 {status}", *fields, "Connection: close"]
    if length is None:
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(
            b"%x\r\n%b\r\n" % (len(piece), piece)
            for piece in (body[at : at + 50_000] for at in range(0, len(body), 50_000))
        )
        body += b"0\r\n\r\n"
    else:
        lines.append(f"Content-Length: {len(body) if length < 0 else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def asked(request: Request, size: int = SIZE) -> tuple[int, int] | None:
    """First and last byte of the range asked for."""
    if request.range is None:
        return None
    first, last = request.range
    return first, min(size - 1, size - 1 if last is None else last)


def plain(*fields: str) -> bytes:
    return said("200 OK", *fields, body=WHOLE)


def part(
    first: int, last: int, *fields: str, total: int | str = SIZE, body: bytes | None = None, length: int | None = -1
) -> bytes:
    return said(
        "206 Partial Content",
        f"Content-Range: bytes {first}-{last}/{total}",
        *fields,
        body=WHOLE[first : last + 1] if body is None else body,
        length=length,
    )


@dataclass
class Cut:
    """The first answer breaks off after ``after`` bytes of its body; the others are those of ``then``."""

    then: Answers
    after: int = 300_000
    fields: tuple[str, ...] = TAG
    begun: bool = False

    def __call__(self, request: Request) -> bytes:
        if request.range is None or self.begun:
            return self.then(request)
        self.begun = True
        return part(0, SIZE - 1, *self.fields, body=WHOLE[: self.after], length=SIZE)


# -- fewer bytes than asked for


def _block(
    size: int, *fields: str, plain_status: str = "200 OK", aligned: bool = False, exclusive: bool = False
) -> Answers:
    def answer(request: Request) -> bytes:
        wanted = asked(request)
        if wanted is None:
            return plain(*fields) if plain_status == "200 OK" else said(plain_status, body=b"ranges alone")
        first, last = wanted
        if aligned:
            first -= first % size
        last = min(first + size - 1, last)
        if exclusive and request.range is not None and request.range[1] is not None:
            last -= 1
        return part(first, last, *fields) if last >= first else said("416 Range Not Satisfiable")

    return answer


@pytest.mark.parametrize(
    "answers",
    [
        _block(100_000, *TAG),
        _block(65_536, *TAG),
        _block(SIZE - 1, *TAG),
        _block(SIZE, *TAG),
        _block(100_000),
        _block(100_000, plain_status="400 Bad Request"),
        _block(100_000, 'ETag: W/"v1"', plain_status="416 Range Required"),
        _block(100_000, "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT", plain_status="503 Busy"),
        Cut(_block(100_000, *TAG)),
        Cut(_block(SIZE, *TAG, exclusive=True)),
        Cut(_block(100_000, *TAG, exclusive=True)),
        Cut(_block(131_072, *TAG, aligned=True)),
        Cut(_block(SIZE, *TAG, aligned=True)),
    ],
    ids=lambda answers: "",
)
async def test_a_source_that_gives_less_than_asked_is_asked_on(
    fetcher: Fetcher, source: SourceServer, answers: Answers
) -> None:
    url = source.add("/x", Resource(raw=answers))

    assert await downloaded(fetcher, url) == WHOLE


async def test_a_first_block_that_nothing_ties_to_the_others_is_replaced_by_the_whole(
    fetcher: Fetcher, source: SourceServer
) -> None:
    url = source.add("/x", Resource(raw=_block(100_000)))

    assert await downloaded(fetcher, url) == WHOLE
    assert [request.range for request in source.log] == [(0, None), None]


async def test_the_total_of_a_first_block_holds_for_the_whole_that_replaces_it(
    fetcher: Fetcher, source: SourceServer
) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    blocks = _block(100_000)
    for path, body in (("/whole", WHOLE), ("/cut", WHOLE[:-1])):

        def answer(request: Request, body: bytes = body) -> bytes:
            return head + body if request.range is None else blocks(request)

        url = source.add(path, Resource(raw=answer))
        if body == WHOLE:
            assert await downloaded(fetcher, url) == WHOLE
        else:
            with pytest.raises(SourceTruncated):
                await downloaded(fetcher, url)


async def test_a_part_that_is_refused_for_now_is_asked_for_again_with_or_without_a_validator(
    fetcher: Fetcher, source: SourceServer
) -> None:
    blocks, count = _block(100_000, plain_status="400 Bad Request"), 0

    def busy_now_and_then(request: Request) -> bytes:
        nonlocal count
        count += 1
        return said("503 Busy") if count in (3, 4) else blocks(request)

    assert await downloaded(fetcher, source.add("/x", Resource(raw=busy_now_and_then))) == WHOLE


async def test_without_a_validator_a_part_that_breaks_off_is_not_gone_on_with(
    fetcher: Fetcher, source: SourceServer
) -> None:
    def breaks(request: Request) -> bytes:
        wanted = asked(request)
        if wanted is None:
            return said("400 Bad Request")
        first = wanted[0]
        return part(first, first + 99_999, body=WHOLE[first : first + (50_000 if first else 100_000)], length=100_000)

    url = source.add("/x", Resource(raw=breaks))

    with pytest.raises(SourceTruncated):
        await downloaded(fetcher, url)
    assert [request.range for request in source.log if request.range] == [(0, None), (100_000, None)]


@pytest.mark.parametrize("fields", [("{}",), ('ETag: W/"{}"',), ("Last-Modified: Tue, 14 Nov 2023 22:13:2{} GMT",)])
async def test_blocks_of_another_version_are_never_joined(
    fetcher: Fetcher, source: SourceServer, fields: tuple[str, ...]
) -> None:
    count = 0

    def changes(request: Request) -> bytes:
        nonlocal count
        wanted = asked(request)
        if wanted is None:
            return said("400 Bad Request")
        count += 1
        shown = () if fields == ("{}",) else (fields[0].format(count),)
        return part(wanted[0], wanted[0] + 99_999, *shown, total=SIZE + (count if not shown else 0))

    with pytest.raises(SourceChanged):
        await downloaded(fetcher, source.add("/x", Resource(raw=changes)))


async def test_a_source_that_gives_next_to_nothing_is_given_up(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", Resource(raw=_block(1000, *TAG)))

    with pytest.raises(FetchFailed):
        await downloaded(fetcher, url)
    assert len(source.log) < 12


# -- bytes that are not those of the range


def _whole_file(length: bool = True, longer: bool = False, plain_too: bool = True) -> Answers:
    """Answers a range with the body of the whole file."""

    def answer(request: Request) -> bytes:
        wanted = asked(request)
        if wanted is None:
            return plain(*TAG) if plain_too else said("400 Bad Request")
        last = SIZE - 1 if longer else wanted[1]
        return part(wanted[0], last, *TAG, body=WHOLE, length=-1 if length else None)

    return answer


def _named(*names: str, body: bytes | None = None, length: int | None = -1) -> Answers:
    """Answers a range by a 206 with these Content-Range fields, anything else by the whole."""

    def answer(request: Request) -> bytes:
        wanted = asked(request)
        if wanted is None:
            return plain(*TAG)
        content = WHOLE[wanted[0] :] if body is None else body
        fields = [f"Content-Range: {name.format(a=wanted[0], z=wanted[1], n=SIZE)}" for name in names]
        return said("206 Partial Content", *fields, *TAG, body=content, length=length)

    return answer


ODD: Final[dict[str, Answers]] = {
    "whole file": Cut(_whole_file()),
    "whole file, chunked": Cut(_whole_file(length=False)),
    "a range that ends later, whole file": Cut(_whole_file(longer=True)),
    "beyond its total": _named("bytes {a}-{n}/{n}"),
    "far beyond its total": _named("bytes {a}-{z}/10"),
    "beyond its total, later": Cut(_named("bytes {a}-{n}/{n}")),
    "backwards": _named("bytes {z}-{a}/{n}"),
    "missing": _named(),
    "missing, later": Cut(_named()),
    "twice": _named("bytes 0-9/{n}", "bytes 0-{z}/{n}"),
    "no total": _named("bytes 0-{z}"),
    "unknown total": _named("bytes 0-99999/*", body=WHOLE[:100_000]),
    "no first": _named("bytes */{n}"),
    "another unit": _named("seconds 0-{z}/{n}"),
    "a start that was not asked for": _named("bytes 10-{z}/{n}"),
    "a start that was not asked for, later": Cut(_named("bytes 500000-{z}/{n}")),
    "fewer bytes than it says, later": Cut(_named("bytes {a}-{z}/{n}", body=WHOLE[300_000:400_000])),
    "several parts": lambda request: (
        plain()
        if request.range is None
        else said(
            "206 Partial Content", "Content-Type: multipart/byteranges; boundary=x", *TAG, body=b"--x\r\n\r\n--x--"
        )
    ),
    "416": lambda request: plain() if request.range is None else said("416 Range Not Satisfiable"),
    "400": lambda request: plain() if request.range is None else said("400 Bad Request"),
    "403": lambda request: plain() if request.range is None else said("403 Forbidden"),
    "404": lambda request: plain() if request.range is None else said("404 Not Found"),
    "501": lambda request: plain() if request.range is None else said("501 Not Implemented"),
    "503": lambda request: plain() if request.range is None else said("503 Busy"),
    "203": lambda request: said("203 Non-Authoritative Information", body=WHOLE),
}


@pytest.mark.parametrize("name", ODD)
async def test_no_answer_to_a_range_makes_wrong_bytes(fetcher: Fetcher, source: SourceServer, name: str) -> None:
    answers = ODD[name]
    if isinstance(answers, Cut):
        answers = replace(answers, begun=False)
    url = source.add("/x", Resource(raw=answers))

    try:
        got = await downloaded(fetcher, url)
    except RangesUnreliable:
        async with fetcher.open(url, ranges=False) as download:  # what a transfer does then
            assert download.resource.size == SIZE
        assert "later" in name or "whole file" in name
    else:
        assert got == WHOLE


@pytest.mark.parametrize(
    "name",
    ["bytes {a}-{n}/{n}", "bytes {a}-{z}/10", "", "bytes 1-{z}/{n}", "bytes {a}-99999/*"],
)
async def test_what_cannot_be_had_without_a_range_either_is_refused(
    fetcher: Fetcher, source: SourceServer, name: str
) -> None:
    def always(request: Request) -> bytes:
        request.headers["range"] = request.headers.get("range", "bytes=0-")
        return _named(name)(request)

    with pytest.raises(FetchRefused):
        await downloaded(fetcher, source.add("/x", Resource(raw=always)))


@pytest.mark.parametrize(
    "name",
    [
        "bytes {a}-{z}/{n}",
        "bytes={a}-{z}/{n}",
        "{a}-{z}/{n}",
        "Bytes {a} - {z} / {n}",
        "bytes: {a}-{z}/{n}",
        "bytes\t{a}-{z}/*",
    ],
)
async def test_the_same_written_otherwise_is_understood(fetcher: Fetcher, source: SourceServer, name: str) -> None:
    url = source.add("/x", Resource(raw=Cut(_named(name))))

    assert await downloaded(fetcher, url) == WHOLE
    assert [request.range for request in source.log] == [(0, None), (300_000, SIZE - 1)]


@pytest.mark.parametrize("then", ["the part", "the part and more"])
async def test_the_length_of_the_whole_before_a_part_is_borne_and_its_end_looked_at(
    fetcher: Fetcher, source: SourceServer, then: str
) -> None:
    more = b"" if then == "the part" else b"x"

    def answer(request: Request) -> bytes:
        wanted = asked(request)
        if wanted is None:
            return plain()
        return part(wanted[0], wanted[1], *TAG, body=WHOLE[wanted[0] :] + more, length=SIZE + 1)

    url = source.add("/x", Resource(raw=Cut(answer)))

    if more:
        with pytest.raises(RangesUnreliable, match="more bytes"):
            await downloaded(fetcher, url)
    else:
        assert await downloaded(fetcher, url) == WHOLE


@pytest.mark.parametrize("answers", [_whole_file(), _whole_file(length=False), _whole_file(longer=True)])
async def test_no_second_connection_is_opened_to_a_source_whose_parts_are_of_another_length(
    fetcher: Fetcher, source: SourceServer, answers: Answers
) -> None:
    url = source.add("/x", Resource(raw=answers))

    async with fetcher.open(url) as download:
        assert download.resource.resumable
        assert await download.readers() is None


async def test_a_source_that_begins_far_too_early_is_not_read_in_parallel(
    fetcher: Fetcher, source: SourceServer
) -> None:
    size = 20 * MIB
    whole = content_bytes(size, 4)

    def early(request: Request) -> bytes:
        return said("206 Partial Content", f"Content-Range: bytes 0-{size - 1}/{size}", *TAG, body=whole)

    async with fetcher.open(source.add("/x", Resource(raw=early))) as download:
        assert await download.readers() is None


# -- codings


def _given(answer: bytes, request: Request) -> bytes:
    return answer


@pytest.mark.parametrize(
    ("field", "compressed"),
    [
        ("", False),
        (",", False),
        ("identity, identity", False),
        ("aws-chunked", False),
        ("utf-8", False),
        ("UTF8, none", False),
        ("binary", False),
        ("base64", False),
        ("image/png", False),
        ("gzip,aws-chunked", True),
        ("aws-chunked, GZIP", True),
        ('"gzip"', True),
    ],
)
async def test_words_that_encode_nothing_are_no_codings(
    fetcher: Fetcher, source: SourceServer, field: str, compressed: bool
) -> None:
    body = gzip.compress(WHOLE) if compressed else WHOLE
    url = source.add("/x", Resource(raw=lambda request: said("200 OK", f"Content-Encoding: {field}", body=body)))

    assert await downloaded(fetcher, url) == WHOLE


@pytest.mark.parametrize("field", ["br", "zstd", "gzip, br", "compress", "aws-chunked, br", "exi"])
async def test_codings_that_are_not_understood_are_named(fetcher: Fetcher, source: SourceServer, field: str) -> None:
    url = source.add("/x", Resource(raw=lambda request: said("200 OK", f"Content-Encoding: {field}", body=WHOLE)))

    with pytest.raises(UnsupportedMedia, match=field.removeprefix("aws-chunked, ")):
        await downloaded(fetcher, url)


async def test_a_part_with_a_coding_that_encodes_nothing_is_a_part(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", Resource(raw=Cut(_block(SIZE, *TAG, "Content-Encoding: aws-chunked"))))

    assert await downloaded(fetcher, url) == WHOLE


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/a.tar.gz", "application/x-tar"),
        ("/b.tgz", "application/octet-stream"),
        ("/c.txt.gz", "text/plain"),
        ("/download", "application/x-gzip"),
        ("/d", "application/gzip; charset=binary"),
    ],
)
async def test_what_is_named_gzip_is_kept_as_gzip(
    fetcher: Fetcher, source: SourceServer, coding: str, path: str, media_type: str
) -> None:
    packed = gzip.compress(WHOLE)
    fields = (f"Content-Encoding: {coding}", f"Content-Type: {media_type}")
    url = source.add(path, Resource(raw=lambda request: said("200 OK", *fields, body=packed)))

    async with fetcher.open(url) as download:
        assert (download.resource.coding, download.resource.size) == (None, len(packed))
    assert await downloaded(fetcher, url) == packed


async def test_a_gzip_file_that_was_compressed_on_the_way_is_taken_out(fetcher: Fetcher, source: SourceServer) -> None:
    packed = gzip.compress(WHOLE)
    twice = said("200 OK", "Content-Encoding: gzip", body=gzip.compress(packed))
    url = source.add("/a.tar.gz", Resource(raw=lambda request: twice))

    assert await downloaded(fetcher, url) == packed


@pytest.mark.parametrize(
    "behind", [b"", b"\0", b"\0" * 70_000, b"\r\n", b" \n\n", b"\0\0" + gzip.compress(b"more", mtime=0)]
)
@pytest.mark.parametrize("length", [-1, None])
async def test_padding_behind_a_compressed_stream_is_none_of_it(
    fetcher: Fetcher, source: SourceServer, behind: bytes, length: int | None
) -> None:
    packed = said("200 OK", "Content-Encoding: gzip", body=gzip.compress(WHOLE) + behind, length=length)
    url = source.add("/x", Resource(raw=lambda request: packed))

    assert await downloaded(fetcher, url) == WHOLE + (b"more" if len(behind) in range(10, 100) else b"")


async def test_an_empty_body_is_an_empty_compressed_one_where_its_framing_shows_it(
    fetcher: Fetcher, source: SourceServer
) -> None:
    for path, length in (("/length", -1), ("/chunked", None)):
        empty = said("200 OK", "Content-Encoding: gzip", length=length)
        assert await downloaded(fetcher, source.add(path, Resource(raw=partial(_given, empty)))) == b""

    cut = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
    with pytest.raises(FetchFailed):
        await downloaded(fetcher, source.add("/cut", Resource(raw=lambda request: cut)))
