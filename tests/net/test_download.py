from __future__ import annotations

import asyncio
import gzip
import zlib
from email.utils import formatdate
from time import time
from typing import Any, Literal

import pytest

from mediagen.core.errors import (
    FetchFailed,
    FetchRefused,
    FirstByteTimeout,
    InvalidRequest,
    SourceChanged,
    SourceStalled,
    SourceTruncated,
    UnsupportedMedia,
    UrlNotAllowed,
)
from mediagen.net.download import Fetcher
from mediagen.streams.base import KIB, MIB, Source
from mediagen.streams.formats.sniff import SNIFF_BYTES
from tests.infra.content import content_bytes
from tests.infra.resource import Answer, Break, Resource, busy, redirect_to
from tests.infra.servers.source import SourceServer
from tests.net.conftest import OpenFetcher

How = Literal["fin", "rst", "stall"]
SIZE = 5 * MIB + 123
WHOLE = content_bytes(SIZE, 1)
SMALL = WHOLE[:300_000]


def film(**changes: Any) -> Resource:
    return Resource(**{"size": SIZE, "seed": 1, **changes})


def small(**changes: Any) -> Resource:
    return Resource(**{"body": SMALL, **changes})


async def drained(source: Source, *, step: int = 256 * KIB) -> bytes:
    out, buffer = bytearray(), memoryview(bytearray(step))
    while count := await source.read_into(buffer):
        out += buffer[:count]
    return bytes(out)


async def downloaded(fetcher: Fetcher, url: str) -> bytes:
    async with fetcher.open(url) as download:
        return await drained(download.sequential())


# -- what an answer says


async def test_a_good_citizen_is_described_and_asked_once(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/a/film.mp4?x=1".partition("?")[0], film(media_type="video/mp4; codecs=x"))

    async with fetcher.open(url) as download:
        resource = download.resource
        assert (resource.size, resource.ranges, resource.resumable) == (SIZE, True, True)
        assert (resource.url, resource.final_url, resource.filename) == (url, url, "film.mp4")
        assert (resource.media_type, resource.coding) == ("video/mp4; codecs=x", None)
        assert download.head == WHOLE[:SNIFF_BYTES]
        assert await drained(download.sequential()) == WHOLE

    (request,) = source.log
    assert request.headers["range"] == "bytes=0-"


@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
@pytest.mark.parametrize("ranges", ["yes", "no", "claimed"])
@pytest.mark.parametrize("validator", ["strong", "weak", "none"])
async def test_any_whole_answer_arrives(
    fetcher: Fetcher, source: SourceServer, framing: Any, ranges: Any, validator: Any
) -> None:
    for size in (0, 1, SNIFF_BYTES, SNIFF_BYTES + 1, len(SMALL)):
        url = source.add("/x", Resource(body=SMALL[:size], framing=framing, ranges=ranges, validator=validator))

        async with fetcher.open(url) as download:
            known = framing == "length" or (ranges == "yes" and size > 0)
            assert download.resource.size == (size if known else None)
            assert download.resource.resumable is (ranges == "yes" and validator == "strong" and size > 0)
            assert await drained(download.sequential()) == SMALL[:size]


async def test_an_empty_file(fetcher: Fetcher, source: SourceServer) -> None:
    """Some say 200 with nothing, some 416 to any range."""
    for path, ranges in (("/plain", "no"), ("/ranged", "yes")):
        url = source.add(path, Resource(size=0, ranges=ranges))  # type: ignore[arg-type]  # a literal of the test
        async with fetcher.open(url) as download:
            assert download.resource.size == 0
            assert await drained(download.sequential()) == b""
    assert [request.status for request in source.requests("/ranged")] == [416, 200]


@pytest.mark.parametrize(
    ("validator", "age", "resumable"),
    [("date", 3600, True), ("date", 0, False), ("weak", 3600, True), ("weak", 0, False)],
)
async def test_a_date_is_a_validator_only_when_it_is_old_enough(
    fetcher: Fetcher, source: SourceServer, validator: Any, age: int, resumable: bool
) -> None:
    modified = 1_700_000_000
    url = source.add("/x", small(validator=validator, headers={"Date": formatdate(modified + age, usegmt=True)}))

    async with fetcher.open(url) as download:
        assert download.resource.resumable is resumable


@pytest.mark.parametrize("etag", ['W/"a"', "a", '"', '""x', "", '"a" "b'])
async def test_what_is_no_strong_tag_is_no_validator(fetcher: Fetcher, source: SourceServer, etag: str) -> None:
    url = source.add("/x", small(validator="none", headers={"ETag": etag}))

    async with fetcher.open(url) as download:
        assert download.resource.validator is None


@pytest.mark.parametrize("value", ["yesterday", "Mon, 99 Foo 99999 99:99:99 GMT", "Mon, 01 Jan 0001 00:00:00 -0000"])
async def test_dates_that_are_none_are_no_validators(fetcher: Fetcher, source: SourceServer, value: str) -> None:
    url = source.add("/x", small(validator="none", headers={"Last-Modified": value, "Date": value}))

    async with fetcher.open(url) as download:
        assert download.resource.validator is None
        assert await drained(download.sequential()) == SMALL


@pytest.mark.parametrize(
    "field",
    [
        "bytes 5-9/10",
        "bytes */10",
        "bytes 0-9",
        "bytes 0-9/ten",
        "pages 0-9/10",
        "",
        "bytes 0-99/*",
        "bytes 0-9/" + "9" * 5000,
    ],
)
async def test_a_part_that_was_not_asked_for_is_refused(fetcher: Fetcher, source: SourceServer, field: str) -> None:
    answer = Answer(206, {"Content-Range": field} if field else {}, b"0123456789")
    url = source.add("/x", Resource(always=answer))

    with pytest.raises(FetchRefused, match="part"):
        await downloaded(fetcher, url)
    assert [request.range for request in source.log] == [(0, None), None]


async def test_the_first_half_that_nobody_asked_for_is_not_taken_for_the_whole(
    fetcher: Fetcher, source: SourceServer
) -> None:
    half = Answer(206, {"Content-Range": "bytes 0-9/20", "ETag": '"a"'}, b"0123456789")
    url = source.add("/x", Resource(always=half))

    with pytest.raises(FetchFailed):
        await downloaded(fetcher, url)


async def test_a_206_of_unknown_total_but_known_length_is_whole(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", Resource(always=Answer(206, {"Content-Range": "bytes 0-9/*"}, b"0123456789")))

    assert await downloaded(fetcher, url) == b"0123456789"


# -- lengths


@pytest.mark.parametrize("ranges", ["yes", "no"])
async def test_a_length_that_is_too_large_is_a_truncation(fetcher: Fetcher, source: SourceServer, ranges: Any) -> None:
    """With ranges the total of Content-Range counts, and the rest is asked for."""
    url = source.add("/x", small(length_delta=1000, ranges=ranges))

    if ranges == "yes":
        assert await downloaded(fetcher, url) == SMALL
    else:
        with pytest.raises(SourceTruncated):
            await downloaded(fetcher, url)


async def test_a_length_that_is_too_small_ends_the_body_there(fetcher: Fetcher, source: SourceServer) -> None:
    """RFC 9112 section 6.3: the length decides; what follows is no part of this answer."""
    url = source.add("/x", small(length_delta=-1000, ranges="no"))

    assert await downloaded(fetcher, url) == SMALL[:-1000]


async def test_a_length_that_is_smaller_than_its_range_is_a_truncation(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", small(length_delta=-1000))

    with pytest.raises(FetchFailed):
        await downloaded(fetcher, url)


# -- broken bodies


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("after", [0, 1, SNIFF_BYTES, 150_000, len(SMALL) - 1])
async def test_a_cut_body_is_never_taken_for_a_whole_one(
    fetcher: Fetcher, source: SourceServer, how: How, framing: Any, after: int
) -> None:
    url = source.add("/x", small(framing=framing, ranges="no", breaks=[Break(after, how=how)]))

    with pytest.raises(FetchFailed) as failed:
        await downloaded(fetcher, url)
    assert failed.value.retryable


@pytest.mark.parametrize("after", [1, 1000, SNIFF_BYTES, 150_000, len(SMALL) - 1])
@pytest.mark.parametrize("times", range(3))
async def test_a_reset_ends_no_body_though_its_end_is_that_of_the_connection(
    fetcher: Fetcher, source: SourceServer, after: int, times: int
) -> None:
    url = source.add("/x", small(framing="close", ranges="no", breaks=[Break(after, how="rst")]))

    with pytest.raises(FetchFailed):
        await downloaded(fetcher, url)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
@pytest.mark.parametrize("after", [0, 1, SNIFF_BYTES - 1, SNIFF_BYTES, 2_000_000, SIZE - 1])
async def test_a_cut_body_is_resumed_where_it_broke(
    fetcher: Fetcher, source: SourceServer, how: How, framing: Any, after: int
) -> None:
    url = source.add("/x", film(framing=framing, breaks=[Break(after, how=how, times=2)]))

    assert await downloaded(fetcher, url) == WHOLE

    first, second, *others = source.requests("/x")
    assert len(others) <= 1
    assert first.range == (0, None)
    for request in (second, *others):
        assert request.headers["if-range"].startswith('"')
        assert request.range is not None
    assert second.range is not None
    assert second.range[0] <= after
    assert second.range[0] >= (after if how == "fin" else 0)
    await source.log.reaches(lambda log: all(request.ended for request in log))
    assert source.sent("/x") <= SIZE + 2 * MIB


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_source_that_cuts_every_answer_is_resumed_to_the_end(
    fetcher: Fetcher, source: SourceServer, framing: Any
) -> None:
    url = source.add("/x", film(framing=framing, breaks=[Break(MIB + 1000, how="fin")]))

    assert await downloaded(fetcher, url) == WHOLE

    starts = [request.range[0] for request in source.requests("/x") if request.range]
    assert starts == [number * (MIB + 1000) for number in range(5)]
    await source.log.reaches(lambda log: all(request.ended for request in log))
    assert source.sent("/x") == SIZE


@pytest.mark.parametrize(("after", "requests"), [(0, 3), (1000, 4), (200_000, 4)])
async def test_a_source_that_gets_nowhere_is_given_up_after_the_tries_allowed(
    fetcher: Fetcher, source: SourceServer, after: int, requests: int
) -> None:
    """Bytes that come count as progress only by the mebibyte."""
    url = source.add("/x", film(breaks=[Break(after)]))

    with pytest.raises(SourceTruncated):
        await downloaded(fetcher, url)

    assert len(source.requests("/x")) <= requests


async def test_the_first_bytes_of_what_cannot_be_resumed_are_tried_again(
    fetcher: Fetcher, source: SourceServer
) -> None:
    url = source.add("/x", small(ranges="no", breaks=[Break(100, times=2)]))

    assert await downloaded(fetcher, url) == SMALL
    assert len(source.log) == 3


async def test_a_broken_body_that_cannot_be_resumed_is_not_asked_for_again(
    fetcher: Fetcher, source: SourceServer
) -> None:
    url = source.add("/x", small(ranges="no", breaks=[Break(100_000)]))

    with pytest.raises(SourceTruncated):
        await downloaded(fetcher, url)
    assert len(source.log) == 1


# -- silence


async def test_no_answer_is_tried_again_and_then_its_own_error(open_fetcher: OpenFetcher, source: SourceServer) -> None:
    url = source.add("/x", small(breaks=[Break(None, how="stall")]))

    async with open_fetcher(first_byte_seconds=0.1, connect_seconds=0.1) as fetcher:
        with pytest.raises(FirstByteTimeout):
            await downloaded(fetcher, url)
    assert len(source.log) == 3


@pytest.mark.parametrize("after", [0, 10, 100_000])
@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
async def test_a_silent_body_is_its_own_error(
    open_fetcher: OpenFetcher, source: SourceServer, framing: Any, after: int
) -> None:
    url = source.add("/x", small(framing=framing, ranges="no", breaks=[Break(after, how="stall")]))

    async with open_fetcher(stall_seconds=0.1, attempts=1) as fetcher:
        with pytest.raises(SourceStalled, match=r"no data for 0\.1 s"):
            await downloaded(fetcher, url)


async def test_a_silent_body_is_resumed(open_fetcher: OpenFetcher, source: SourceServer) -> None:
    url = source.add("/x", film(breaks=[Break(2 * MIB, how="stall", times=1)]))

    async with open_fetcher(stall_seconds=0.5) as fetcher:
        assert await downloaded(fetcher, url) == WHOLE
    assert [request.range for request in source.log] == [(0, None), (2 * MIB, SIZE - 1)]


@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
async def test_a_slow_drip_is_no_silence(open_fetcher: OpenFetcher, source: SourceServer, framing: Any) -> None:
    url = source.add("/x", Resource(body=SMALL[:90], rate=100, framing=framing, ranges="no"))

    async with open_fetcher(stall_seconds=0.7) as fetcher:
        assert await downloaded(fetcher, url) == SMALL[:90]


# -- refusals


@pytest.mark.parametrize("status", [400, 403, 404, 405, 406, 410, 501])
async def test_a_refusal_for_good_is_tried_once_more_without_a_range(
    fetcher: Fetcher, source: SourceServer, status: int
) -> None:
    url = source.add("/x", Resource(always=Answer(status, {}, b"<html>no</html>")))

    with pytest.raises(FetchRefused, match=str(status)):
        await downloaded(fetcher, url)
    assert [request.range for request in source.log] == [(0, None), None]


@pytest.mark.parametrize("status", [401, 402, 407, 451])
async def test_a_refusal_that_no_range_can_be_the_reason_of_is_not_tried_again(
    fetcher: Fetcher, source: SourceServer, status: int
) -> None:
    url = source.add("/x", Resource(always=Answer(status, {}, b"<html>no</html>")))

    with pytest.raises(FetchRefused, match=str(status)):
        await downloaded(fetcher, url)
    assert len(source.log) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_refusal_for_now_is_tried_again(fetcher: Fetcher, source: SourceServer, status: int) -> None:
    url = source.add("/x", small(script=[busy(status), busy(status)]))

    assert await downloaded(fetcher, url) == SMALL
    assert len(source.log) == 3


async def test_tries_end(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", Resource(always=busy(503)))

    with pytest.raises(FetchFailed, match="503"):
        await downloaded(fetcher, url)
    assert [request.range for request in source.log] == [(0, None)] * 3 + [None]


@pytest.mark.parametrize("asked", ["1", "in an hour"])
async def test_the_source_says_how_long_to_wait(fetcher: Fetcher, source: SourceServer, asked: str) -> None:
    value = asked if asked == "1" else formatdate(time() + 3600, usegmt=True)
    url = source.add("/x", small(script=[busy(429, value)]))

    loop = asyncio.get_running_loop()
    began = loop.time()
    if asked == "1":
        assert await downloaded(fetcher, url) == SMALL
        assert loop.time() - began >= 1
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await downloaded(fetcher, url)
        assert len(source.log) == 1


# -- redirects, types, names


async def test_the_final_answer_decides_the_type(fetcher: Fetcher, source: SourceServer) -> None:
    source.add("/film", film(media_type="video/mp4", filename="real.mp4"))
    url = source.add("/page.html", Resource(always=redirect_to("/film", Content_Type="text/html")))

    async with fetcher.open(url) as download:
        assert (download.resource.media_type, download.resource.filename) == ("video/mp4", "real.mp4")
        assert download.resource.final_url == source.url("/film")
        assert download.resource.url == url


async def test_an_expired_link_is_asked_for_anew(fetcher: Fetcher, source: SourceServer) -> None:
    source.add("/signed-1", film(breaks=[Break(2 * MIB)], one_time=True))
    source.add("/signed-2", film())
    url = source.add("/film", Resource(script=[redirect_to("/signed-1")], always=redirect_to("/signed-2")))

    assert await downloaded(fetcher, url) == WHOLE

    assert [request.range for request in source.requests("/signed-2")] == [(2 * MIB, SIZE - 1)]


async def test_a_link_that_was_replaced_is_not_asked_again(fetcher: Fetcher, source: SourceServer) -> None:
    source.add("/signed-1", film(breaks=[Break(2 * MIB)], one_time=True))
    source.add("/signed-2", film(breaks=[Break(MIB + 1, times=2)]))
    url = source.add("/film", Resource(script=[redirect_to("/signed-1")], always=redirect_to("/signed-2")))

    assert await downloaded(fetcher, url) == WHOLE

    assert len(source.requests("/signed-1")) == 2


@pytest.mark.parametrize("url", ["http://[::1", "http://a..b/", "", "x", "http://user@127.0.0.1/", "http://h:99999/"])
async def test_what_is_no_url_is_an_error_of_ours(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(InvalidRequest):
        await downloaded(fetcher, url)


async def test_an_address_that_is_not_allowed_is_tried_once(fetcher: Fetcher) -> None:
    with pytest.raises(UrlNotAllowed):
        await downloaded(fetcher, "http://127.0.0.3:1/")


# -- compression


@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
async def test_a_compressed_answer_is_taken_apart(fetcher: Fetcher, source: SourceServer, framing: Any) -> None:
    url = source.add("/x", small(gzip=True, framing=framing))

    async with fetcher.open(url) as download:
        assert (download.resource.size, download.resource.coding, download.resource.resumable) == (None, "gzip", False)
        assert download.head == SMALL[:SNIFF_BYTES]
        assert await drained(download.sequential()) == SMALL


@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
@pytest.mark.parametrize("after", [5, 200_000])
async def test_a_compressed_answer_cut_short_is_an_error(
    fetcher: Fetcher, source: SourceServer, framing: Any, after: int
) -> None:
    url = source.add("/x", small(gzip=True, framing=framing, breaks=[Break(after)]))

    with pytest.raises(SourceTruncated):
        await downloaded(fetcher, url)


async def test_deflate_and_unknown_codings(fetcher: Fetcher, source: SourceServer) -> None:
    deflate = Answer(200, {"Content-Encoding": "Deflate"}, zlib.compress(SMALL))
    twice = Answer(200, {"Content-Encoding": "gzip, gzip"}, gzip.compress(gzip.compress(SMALL)))

    assert await downloaded(fetcher, source.add("/deflate", Resource(always=deflate))) == SMALL
    for number, answer in enumerate([twice, Answer(200, {"Content-Encoding": "br"}, b"\x0b\x02\x80")]):
        with pytest.raises(UnsupportedMedia):
            await downloaded(fetcher, source.add(f"/{number}", Resource(always=answer)))
    identity = Answer(200, {"Content-Encoding": "identity"}, SMALL)
    assert await downloaded(fetcher, source.add("/identity", Resource(always=identity))) == SMALL


# -- leaving early


@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
@pytest.mark.parametrize("ranges", ["yes", "no"])
async def test_a_download_left_in_the_middle_leaves_nothing(
    fetcher: Fetcher, source: SourceServer, framing: Any, ranges: Any
) -> None:
    url = source.add("/x", film(framing=framing, ranges=ranges, breaks=[Break(2 * MIB, how="stall")]))

    async with fetcher.open(url) as download:
        await download.sequential().read_into(memoryview(bytearray(MIB)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await downloaded(fetcher, url)

    await source.log.reaches(lambda log: all(request.ended for request in log))


async def test_many_downloads_of_one_host_share_its_connections(
    open_fetcher: OpenFetcher, source: SourceServer
) -> None:
    url = source.add("/x", film())

    async with open_fetcher(connections_per_host=8) as fetcher, fetcher.open(url) as first:
        assert fetcher.workers(first.resource, 4) == 4
        async with (
            fetcher.open(url),
            fetcher.open(url),
        ):
            assert fetcher.workers(first.resource, 4) == 2
        assert fetcher.workers(first.resource, 40) == 8


async def test_a_source_that_changed_is_told_apart(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", film(breaks=[Break(2 * MIB, times=1)], changes_after=1))

    with pytest.raises(SourceChanged):
        await downloaded(fetcher, url)
    assert len(source.log) == 2
