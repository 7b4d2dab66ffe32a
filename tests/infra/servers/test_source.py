"""Each behaviour of the scripted source, as it is on the wire."""

import gzip
import zlib

import pytest

from tests.infra.content import content_bytes
from tests.infra.rawclient import connected, fetch
from tests.infra.resource import Answer, Break, Resource, busy, redirect_to
from tests.infra.servers.source import SourceServer

SIZE = 300_000
WHOLE = content_bytes(SIZE, 1)


def film(**changes: object) -> Resource:
    return Resource(size=SIZE, seed=1, **changes)  # type: ignore[arg-type]  # the test names fields of Resource


def test_a_good_citizen(source: SourceServer) -> None:
    source.add("/film", film(media_type="video/mp4", filename="a.mp4"))

    seen = fetch(source.port, "/film?key=1")

    assert (seen.status, seen.end, seen.body) == (200, "fin", WHOLE)
    assert seen.head["content-length"] == str(SIZE)
    assert seen.head["accept-ranges"] == "bytes"
    assert seen.head["etag"].startswith('"')
    assert seen.head["content-type"] == "video/mp4"
    assert seen.head["content-disposition"] == 'attachment; filename="a.mp4"'
    (request,) = source.requests("/film")
    assert (request.status, request.sent, request.target, request.ended) == (200, SIZE, "/film?key=1", True)


def test_head_and_unknown_path_and_keep_alive(source: SourceServer) -> None:
    source.add("/film", film())

    with connected(source.port) as client:
        client.get("/film", method="HEAD")
        client.get("/none")
        client.get("/film", close=True)
        seen = client.read()

    assert seen.end == "fin"
    assert seen.data.count(b"HTTP/1.1 ") == 3
    assert seen.data.endswith(WHOLE)
    assert [request.status for request in source.log] == [200, 404, 200]


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=10-19", 206, 10, 20),
        ("bytes=299999-", 206, 299_999, SIZE),
        ("bytes=-5", 206, SIZE - 5, SIZE),
        ("bytes=299990-400000", 206, 299_990, SIZE),
        ("bytes=300000-", 416, 0, 0),
        ("lines=1-2", 200, 0, SIZE),
    ],
)
def test_ranges(source: SourceServer, asked: str, status: int, start: int, stop: int) -> None:
    source.add("/film", film())

    seen = fetch(source.port, "/film", Range=asked)

    assert (seen.status, seen.body) == (status, WHOLE[start:stop])
    if status == 206:
        assert seen.head["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    if status == 416:
        assert seen.head["content-range"] == f"bytes */{SIZE}"


def test_if_range_and_if_match_compare_the_validator(source: SourceServer) -> None:
    source.add("/film", film())
    etag = fetch(source.port, "/film", method="HEAD").head["etag"]

    assert fetch(source.port, "/film", Range="bytes=5-", If_Range=etag).status == 206
    assert fetch(source.port, "/film", Range="bytes=5-", If_Match=etag).status == 206
    source.change("/film")
    assert fetch(source.port, "/film", Range="bytes=5-", If_Range=etag).status == 200
    assert fetch(source.port, "/film", Range="bytes=5-", If_Match=etag).status == 412


def test_changed_content_has_other_bytes_and_validators(source: SourceServer) -> None:
    source.add("/film", film(changes_after=2))

    first, second, third = (fetch(source.port, "/film") for _ in range(3))

    assert first.body == second.body == WHOLE
    assert len(third.body) == SIZE
    assert third.body != WHOLE
    assert third.head["etag"] != first.head["etag"]
    assert third.head["last-modified"] != first.head["last-modified"]


def test_validators(source: SourceServer) -> None:
    for kind in ("weak", "date", "none"):
        source.add(f"/{kind}", film(validator=kind))
    weak, date, none = (fetch(source.port, f"/{kind}").head for kind in ("weak", "date", "none"))

    assert weak["etag"].startswith('W/"')
    assert "etag" not in date
    assert "last-modified" in date
    assert not {"etag", "last-modified"} & set(none)
    assert fetch(source.port, "/weak", Range="bytes=5-", If_Range=weak["etag"]).status == 200
    assert fetch(source.port, "/date", Range="bytes=5-", If_Range=date["last-modified"]).status == 206


def test_ranges_gone_wrong(source: SourceServer) -> None:
    for kind in ("no", "claimed", "unasked", "wrong", "ignores_if_range"):
        source.add(f"/{kind}", film(ranges=kind))

    no, claimed = (fetch(source.port, path, Range="bytes=5-9") for path in ("/no", "/claimed"))
    unasked, wrong = fetch(source.port, "/unasked"), fetch(source.port, "/wrong", Range="bytes=5-9")

    assert (no.status, "accept-ranges" in no.head, no.body) == (200, False, WHOLE)
    assert (claimed.status, claimed.head["accept-ranges"], claimed.body) == (200, "bytes", WHOLE)
    assert (unasked.status, unasked.head["content-range"]) == (206, f"bytes 0-149999/{SIZE}")
    assert (wrong.status, wrong.head["content-range"], wrong.body) == (206, f"bytes 6-10/{SIZE}", WHOLE[5:10])
    assert fetch(source.port, "/ignores_if_range", Range="bytes=5-9", If_Range='"old"').status == 206


def test_framing(source: SourceServer) -> None:
    source.add("/close", film(framing="close"))
    source.add("/chunked", film(framing="chunked"))
    source.add("/cut", film(framing="chunked", breaks=[Break(1000)]))

    close, chunked, cut = (fetch(source.port, path) for path in ("/close", "/chunked", "/cut"))

    assert (close.body, "content-length" in close.head, close.end) == (WHOLE, False, "fin")
    assert chunked.head["transfer-encoding"] == "chunked"
    assert chunked.body.startswith(b"40000\r\n" + WHOLE[:10])
    assert chunked.body.endswith(b"\r\n0\r\n\r\n")
    assert (cut.body, cut.end) == (b"3e8\r\n" + WHOLE[:1000] + b"\r\n", "fin")


@pytest.mark.parametrize("delta", [-1000, 1000])
def test_wrong_content_length(source: SourceServer, delta: int) -> None:
    source.add("/film", film(length_delta=delta))

    with connected(source.port) as client:
        client.get("/film")
        seen = client.read()

    assert (seen.head["content-length"], seen.body, seen.end) == (str(SIZE + delta), WHOLE, "fin")


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("after", [0, 1, 123_456, SIZE - 1])
def test_cuts(source: SourceServer, how: str, after: int) -> None:
    source.add("/film", film(breaks=[Break(after, how=how)]))  # type: ignore[arg-type]  # a parameter of the test

    seen = fetch(source.port, "/film")

    assert (seen.end, seen.body) == (how, WHOLE[:after])
    assert source.sent("/film") == after


def test_cut_of_the_first_connections_only(source: SourceServer) -> None:
    source.add("/film", film(breaks=[Break(None, how="rst", times=1), Break(10, times=1, skip=1)]))

    first, second, third = (fetch(source.port, "/film") for _ in range(3))

    assert (first.data, first.end) == (b"", "rst")
    assert second.body == WHOLE[:10]
    assert third.body == WHOLE


async def test_stall_until_released(source: SourceServer) -> None:
    source.add("/film", film(breaks=[Break(1000, how="stall")]))

    with connected(source.port) as client:
        client.get("/film", close=True)
        await source.log.reaches(lambda _: source.sent("/film") == 1000)
        stalled = client.read(quiet=0.2)
        source.release("/film")
        rest = client.read()

    assert (stalled.end, stalled.body) == ("silence", WHOLE[:1000])
    assert (rest.end, rest.data) == ("fin", WHOLE[1000:])


async def test_a_stalled_answer_sees_the_client_go(source: SourceServer) -> None:
    source.add("/film", film(breaks=[Break(0, how="stall")]))

    with connected(source.port) as client:
        client.get("/film")
        await source.log.reaches(lambda log: any(request.status for request in log))

    await source.log.reaches(lambda log: all(request.ended for request in log))


def test_delay_and_rate(source: SourceServer) -> None:
    source.add("/late", Resource(size=10, delay=0.2))
    source.add("/slow", Resource(size=30_000, rate=100_000))

    assert fetch(source.port, "/late").seconds >= 0.2
    assert fetch(source.port, "/slow").seconds >= 0.28


def test_scripted_answers_then_the_content(source: SourceServer) -> None:
    source.add("/film", film(script=[busy(503, 1), busy(429, "Wed, 21 Oct 2026 07:28:00 GMT"), Answer(404)]))

    seen = [fetch(source.port, "/film") for _ in range(4)]

    assert [one.status for one in seen] == [503, 429, 404, 200]
    assert [one.head.get("retry-after") for one in seen[:2]] == ["1", "Wed, 21 Oct 2026 07:28:00 GMT"]


def test_redirects(source: SourceServer) -> None:
    source.add("/typed", Resource(always=redirect_to("/film", 307, Content_Type="text/html")))

    source.redirect("/chain", "http://127.0.0.2/x", hops=3)
    source.redirect("/loop", "/loop")

    places = [fetch(source.port, path).head["location"] for path in ("/chain", "/chain-2", "/chain-3", "/loop")]
    assert places == ["/chain-2", "/chain-3", "http://127.0.0.2/x", "/loop"]
    typed = fetch(source.port, "/typed")
    assert (typed.status, typed.head["content-type"], typed.head["location"]) == (307, "text/html", "/film")


def test_limits_of_use(source: SourceServer) -> None:
    source.add("/one", film(max_connections=1, breaks=[Break(10, how="stall", times=1)]))
    source.add("/once", film(one_time=True))

    with connected(source.port) as client:
        client.get("/one")
        assert client.read(quiet=0.1).status == 200
        assert fetch(source.port, "/one").status == 429
    assert [fetch(source.port, "/once").status for _ in range(2)] == [200, 403]


def test_gzip_whole_and_cut(source: SourceServer) -> None:
    source.add("/whole", film(gzip=True))
    source.add("/cut", film(gzip=True, framing="close", breaks=[Break(1000)]))

    whole, cut = fetch(source.port, "/whole"), fetch(source.port, "/cut")

    assert whole.head["content-encoding"] == "gzip"
    assert gzip.decompress(whole.body) == WHOLE
    assert len(cut.body) == 1000
    with pytest.raises(EOFError):
        gzip.decompress(cut.body)
    assert zlib.decompressobj(31).decompress(cut.body) == WHOLE[: len(zlib.decompressobj(31).decompress(cut.body))]


def test_literal_bodies_and_empty_files(source: SourceServer) -> None:
    source.add("/page", Resource(body=b"<html>login</html>", media_type="text/html"))
    source.add("/lie", Resource(body=b"\x89PNG\r\n\x1a\n", media_type="text/plain"))
    source.add("/empty", Resource())
    source.add("/nohead", Resource(size=1, head=False, media_type=None, headers={"X-More": "1"}))

    page, lie, empty = (fetch(source.port, path) for path in ("/page", "/lie", "/empty"))

    assert (page.status, page.head["content-type"], page.body) == (200, "text/html", b"<html>login</html>")
    assert (lie.head["content-type"], lie.body[:4]) == ("text/plain", b"\x89PNG")
    assert (empty.head["content-length"], empty.body) == ("0", b"")
    assert fetch(source.port, "/nohead", method="HEAD").status == 405
    assert fetch(source.port, "/nohead").head["x-more"] == "1"
