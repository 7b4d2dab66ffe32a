from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import zlib
from typing import Any

import pytest
from pydantic import ValidationError

from mediagen.core.errors import (
    DeadlineExceeded,
    FetchFailed,
    FetchRefused,
    InvalidBase64,
    InvalidRequest,
    SourceTruncated,
    StorageFull,
    TooLarge,
    UnsupportedMedia,
    UrlNotAllowed,
)
from mediagen.core.files import FileKind
from mediagen.pipelines.ingest import IngestSpec
from mediagen.pipelines.saving.saver import RANGES_FROM
from mediagen.streams.base import MIB
from tests.infra.content import content_bytes
from tests.infra.resource import Answer, Break, Resource, busy, redirect_to
from tests.infra.servers.source import SourceServer
from tests.net.conftest import OpenFetcher
from tests.pipelines.attempts import Attempt
from tests.pipelines.conftest import Recipe
from tests.streams.formats.files import avif, gif, jpeg, mp4, png, webp

SIZE = 3 * MIB + 5
WHOLE = content_bytes(SIZE, 1)
LARGE = RANGES_FROM + 9 * MIB + 11


def film(**changes: Any) -> Resource:
    return Resource(**{"size": SIZE, "seed": 1, **changes})


async def cancelled_after(seconds: float, recipe: Recipe, url: str, attempt: Attempt) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await recipe.outcome(url, attempt)


# -- what becomes of a URL


async def test_a_small_file_in_order_with_its_digests(recipe: Recipe, source: SourceServer) -> None:
    attempt = Attempt()

    file = await recipe.run(source.add("/films/clip.mp4", film(media_type="video/mp4")), attempt)

    assert recipe.bytes_of(file) == WHOLE
    assert (file.bytes, file.sha256) == (SIZE, hashlib.sha256(WHOLE).hexdigest())
    assert (file.checksum.algorithm, file.checksum.value) == ("crc32", f"{zlib.crc32(WHOLE):08x}")
    assert (file.filename, file.media_type, file.kind) == ("clip.mp4", "video/mp4", FileKind.VIDEO)
    assert (file.task_id, file.owner) == ("task_1", "somebody")
    assert file.key == f"videos/{file.id}.mp4"
    assert recipe.files == [file.key]
    assert len(source.log) == 1
    assert attempt.readings[0].phase == "connecting"
    last = attempt.readings[-1].transfer
    assert last is not None
    assert (last.downloaded, last.uploaded, last.total) == (SIZE, SIZE, SIZE)


async def test_a_large_file_goes_over_several_connections(recipe: Recipe, source: SourceServer) -> None:
    attempt = Attempt()

    file = await recipe.run(source.add("/x", film(size=LARGE)), attempt)

    assert recipe.bytes_of(file) == content_bytes(LARGE, 1)
    assert file.sha256 is None
    assert file.checksum.value == f"{zlib.crc32(content_bytes(LARGE, 1)):08x}"
    assert len(source.log) > 2
    assert sorted(attempt.newly_recorded) == list(range(1, len(attempt.newly_recorded) + 1))
    assert attempt.saved[-1]["upload"] is not None
    assert recipe.files == [file.key]


@pytest.mark.parametrize(
    "changes",
    [
        {"size": RANGES_FROM - 1},
        {"size": LARGE, "ranges": "no"},
        {"size": LARGE, "ranges": "claimed"},
        {"size": LARGE, "validator": "weak"},
        {"size": LARGE, "validator": "none"},
        {"size": LARGE, "framing": "chunked", "ranges": "no"},
        {"size": LARGE, "framing": "close", "ranges": "no"},
        {"size": LARGE, "gzip": True},
        {"size": 0},
        {"size": 0, "ranges": "no", "framing": "close"},
    ],
    ids=str,
)
async def test_everything_else_goes_over_one(recipe: Recipe, source: SourceServer, changes: dict[str, Any]) -> None:
    file = await recipe.run(source.add("/x", film(**changes)))

    wanted = content_bytes(changes["size"], 1)
    assert recipe.bytes_of(file) == wanted
    assert file.sha256 == hashlib.sha256(wanted).hexdigest()
    assert [request.status for request in source.log if request.status in (200, 206)][1:] == []


@pytest.mark.parametrize("refusal", [busy(429), Answer(403)])
async def test_a_source_that_lets_one_connection_in_is_taken_over_that(
    recipe: Recipe, source: SourceServer, refusal: Answer
) -> None:
    url = source.add("/x", film(size=LARGE, max_connections=1, refusal=refusal))

    file = await recipe.run(url)

    assert recipe.bytes_of(file) == content_bytes(LARGE, 1)
    assert file.sha256 is not None


async def test_a_link_that_works_once(recipe: Recipe, source: SourceServer) -> None:
    file = await recipe.run(source.add("/x", film(size=LARGE, one_time=True)))

    assert recipe.bytes_of(file) == content_bytes(LARGE, 1)


async def test_progress_is_told_all_along_and_never_falls(recipe: Recipe, source: SourceServer) -> None:
    for size in (SIZE, LARGE):
        attempt = Attempt()
        await recipe.run(source.add("/x", film(size=size)), attempt)
        seen = [reading.transfer.downloaded for reading in attempt.readings if reading.transfer]
        assert seen == sorted(seen)
        # a thread counts as it goes, and is back after 8 MiB; of two threads
        assert all(after - before < 17 * MIB for before, after in zip([0, *seen], seen, strict=False))
        assert all(reading.percent is None or 0 <= reading.percent <= 99 for reading in attempt.readings)


# -- what it is


@pytest.mark.parametrize(
    ("body", "declared", "media_type", "folder"),
    [
        (png(), "text/plain", "image/png", "assets/images"),
        (jpeg(thumbnail=True), "application/octet-stream", "image/jpeg", "assets/images"),
        (gif(), "image/png", "image/gif", "assets/images"),
        (webp(), None, "image/webp", "assets/images"),
        (avif(), "video/mp4", "image/avif", "assets/images"),
        (mp4(), "image/png", "video/mp4", "videos"),
        (b"ID3\x04" + bytes(500), "video/mp4", "audio/mpeg", "assets/audio"),
        (b"WEBVTT\n\n", "text/plain", "text/vtt", "assets/subtitles"),
        (b"<!doctype html><title>Sign in</title>", "image/png", "text/html", "assets/files"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png", "image/svg+xml", "assets/images"),
        (b"{}", "application/json", "application/json", "assets/files"),
    ],
)
@pytest.mark.parametrize("framing", ["length", "close"])
async def test_the_bytes_decide_the_type(
    recipe: Recipe, source: SourceServer, body: bytes, declared: str | None, media_type: str, folder: str, framing: Any
) -> None:
    url = source.add("/thing", Resource(body=body, media_type=declared, framing=framing, ranges="no"))

    file = await recipe.run(url)

    assert (file.media_type, file.key.rpartition("/")[0]) == (media_type, folder)
    assert recipe.bytes_of(file) == body


async def test_the_type_after_a_redirect_counts(recipe: Recipe, source: SourceServer) -> None:
    source.add("/real", Resource(body=png(), media_type="image/png"))
    url = source.add("/page", Resource(always=redirect_to("/real", Content_Type="text/html")))

    assert (await recipe.run(url)).media_type == "image/png"


async def test_another_kind_than_was_asked_for_is_refused_and_nothing_kept(
    recipe: Recipe, source: SourceServer
) -> None:
    url = source.add("/x.png", Resource(body=b"<html>login</html>", media_type="image/png"))

    with pytest.raises(UnsupportedMedia, match="image was requested, but this is text/html"):
        await recipe.run(url, kind="image")
    assert recipe.files == []
    assert (await recipe.run(source.add("/y", Resource(body=png())), kind="image")).kind is FileKind.IMAGE


@pytest.mark.parametrize(
    ("asked", "filename"),
    [(None, "real.mp4"), ("my film.mp4", "my film.mp4"), ("../../x.mp4", "x.mp4"), ("..", None), ("a\x00b", "ab")],
)
async def test_names_are_for_people(
    recipe: Recipe, source: SourceServer, asked: str | None, filename: str | None
) -> None:
    url = source.add("/x", Resource(body=mp4(), filename="real.mp4"))

    file = await recipe.run(url, filename=asked)

    assert file.filename == (filename or f"{file.id}.mp4")
    assert recipe.files == [f"videos/{file.id}.mp4"]


# -- limits


async def test_too_large_announced_is_refused_before_anything_is_stored(recipe: Recipe, source: SourceServer) -> None:
    attempt, small = Attempt(), recipe.limited(file_bytes=SIZE - 1)

    for size in (SIZE, LARGE):
        with pytest.raises(TooLarge, match="announced"):
            await small.run(source.add("/x", film(size=size)), attempt)
    assert (recipe.files, attempt.saved) == ([], [])
    assert (await recipe.limited(file_bytes=SIZE).run(source.add("/x", film()))).bytes == SIZE


@pytest.mark.parametrize("changes", [{"framing": "chunked"}, {"framing": "close"}, {"gzip": True}])
async def test_too_large_unannounced_is_stopped_on_the_way(
    recipe: Recipe, source: SourceServer, changes: dict[str, Any]
) -> None:
    url = source.add("/x", film(size=12 * MIB, ranges="no", **changes))

    with pytest.raises(TooLarge, match="larger than"):
        await recipe.limited(file_bytes=2 * MIB).run(url)
    assert recipe.files == []
    assert len(source.log) == 1


async def test_each_kind_has_its_limit(recipe: Recipe, source: SourceServer) -> None:
    picture = source.add("/x", Resource(body=png(text=b"x" * 2000)))

    with pytest.raises(TooLarge, match="of kind image"):
        await recipe.limited(image_bytes=1000).run(picture)
    await recipe.limited(video_bytes=1000, file_bytes=1000).run(picture)


async def test_a_bomb_is_stopped_on_the_way(recipe: Recipe, source: SourceServer) -> None:
    bomb = Answer(200, {"Content-Encoding": "gzip"}, zlib.compress(bytes(64 * MIB), 9, 31))

    with pytest.raises(TooLarge):
        await recipe.limited(file_bytes=8 * MIB).run(source.add("/x", Resource(always=bomb)))
    assert recipe.files == []


# -- what breaks


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_without_ranges_a_broken_transfer_starts_over(
    recipe: Recipe, source: SourceServer, framing: Any, how: Any
) -> None:
    url = source.add("/x", film(ranges="no", framing=framing, breaks=[Break(2 * MIB, how=how, times=2)]))

    file = await recipe.run(url)

    assert recipe.bytes_of(file) == WHOLE
    assert len(source.log) == 3
    assert recipe.files == [file.key]


async def test_starting_over_ends_with_the_tries_allowed(recipe: Recipe, source: SourceServer) -> None:
    url = source.add("/x", film(ranges="no", breaks=[Break(2 * MIB)]))

    with pytest.raises(SourceTruncated):
        await recipe.run(url)
    assert (len(source.log), recipe.files) == (3, [])


@pytest.mark.parametrize("size", [SIZE, LARGE])
async def test_with_ranges_a_broken_transfer_goes_on(recipe: Recipe, source: SourceServer, size: int) -> None:
    url = source.add("/x", film(size=size, breaks=[Break(2 * MIB - 1, how="rst", times=5)]))

    file = await recipe.run(url)

    assert recipe.bytes_of(file) == content_bytes(size, 1)


async def test_a_source_that_changes_on_the_way_is_taken_anew(recipe: Recipe, source: SourceServer) -> None:
    url = source.add("/x", film(size=LARGE, changes_after=3))

    file = await recipe.run(url)

    assert len(recipe.bytes_of(file)) == LARGE
    assert recipe.bytes_of(file) != content_bytes(LARGE, 1)
    assert file.checksum.value == f"{zlib.crc32(recipe.bytes_of(file)):08x}"
    assert recipe.files == [file.key]


@pytest.mark.parametrize(("body", "name"), [(png(), "png"), (jpeg(thumbnail=True), "jpeg"), (mp4(), "mp4")])
async def test_a_file_that_is_cut_where_nothing_announced_its_length(
    recipe: Recipe, source: SourceServer, body: bytes, name: str
) -> None:
    url = source.add("/x", Resource(body=body[:-9], framing="close", ranges="no"))

    with pytest.raises(SourceTruncated, match="before the end of the file"):
        await recipe.run(url)
    assert recipe.files == []


@pytest.mark.parametrize(
    ("resource", "error"),
    [
        (Resource(always=Answer(404)), FetchRefused),
        (Resource(always=Answer(401)), FetchRefused),
        (Resource(always=busy(503)), FetchFailed),
        (Resource(always=redirect_to("http://127.0.0.9/")), UrlNotAllowed),
        (Resource(always=Answer(200, {"Content-Encoding": "br"}, b"x")), UnsupportedMedia),
        (film(breaks=[Break(None)]), FetchFailed),
        (film(ranges="no", breaks=[Break(0)]), SourceTruncated),
        (film(size=LARGE, breaks=[Break(1000)]), SourceTruncated),
    ],
)
async def test_a_failure_has_its_own_class_and_leaves_nothing(
    recipe: Recipe, source: SourceServer, resource: Resource, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await recipe.run(source.add("/x", resource))
    assert recipe.files == []


async def test_a_full_disk_is_said_and_leaves_nothing_open(recipe: Recipe, source: SourceServer) -> None:
    recipe.store.storage._reserve = 1 << 62  # type: ignore[attr-defined]  # of the local store

    for size in (SIZE, LARGE):
        with pytest.raises(StorageFull):
            await recipe.run(source.add("/x", film(size=size, breaks=[Break(2 * MIB, how="stall")])))
    assert recipe.files == []


async def test_the_whole_download_has_a_limit(open_fetcher: OpenFetcher, recipe: Recipe, source: SourceServer) -> None:
    url = source.add("/x", film(breaks=[Break(MIB, how="stall")]))

    async with open_fetcher(total_seconds=0.2) as fetcher:
        with pytest.raises(DeadlineExceeded, match=r"0\.2 s"):
            await Recipe(fetcher, recipe.store, recipe.folder).run(url)
    assert recipe.files == []


# -- cancel, stop, crash


@pytest.mark.parametrize("size", [SIZE, LARGE])
@pytest.mark.parametrize("ranges", ["yes", "no"])
async def test_cancel_in_the_middle_leaves_nothing(
    recipe: Recipe, source: SourceServer, size: int, ranges: Any
) -> None:
    url = source.add("/x", film(size=size, ranges=ranges, breaks=[Break(2 * MIB, how="stall")]))

    attempt = Attempt()
    await cancelled_after(0.3, recipe, url, attempt)

    assert attempt.saved
    assert recipe.files == []
    await source.log.reaches(lambda log: all(request.ended for request in log))


async def test_cancel_at_any_moment_leaves_nothing(recipe: Recipe, source: SourceServer) -> None:
    dice = random.Random(5)
    for number in range(25):
        size = dice.choice([SIZE, LARGE])
        url = source.add(f"/{number}", film(size=size, ranges=dice.choice(["yes", "no"])))
        running = asyncio.get_running_loop().create_task(recipe.outcome(url, Attempt()))
        await asyncio.sleep(dice.random() * 0.06)
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            await recipe.pipeline.discard(running.result())
        assert recipe.files == []


async def stopped(recipe: Recipe, source: SourceServer, url: str) -> Attempt:
    """An attempt whose server was stopped after some parts; the source is quick again."""
    attempt = Attempt()
    running = asyncio.get_running_loop().create_task(recipe.outcome(url, attempt))
    await attempt.reaches(lambda attempt: len(attempt.recorded) >= 2)
    attempt.stopping = True
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    return attempt


async def test_a_stopped_server_goes_on_where_it_was(recipe: Recipe, source: SourceServer) -> None:
    size = 72 * MIB
    url = source.add("/x", film(size=size, rate=60 * MIB))
    first = await stopped(recipe, source, url)
    assert len(recipe.files) == 1
    assert recipe.files[0].startswith(".uploads/")
    source.add("/x", film(size=size))
    source.log.clear()
    second = first.after_crash()

    file = await recipe.run(url, second)

    assert file.checksum.value == f"{zlib.crc32(content_bytes(size, 1)):08x}"
    assert recipe.bytes_of(file) == content_bytes(size, 1)
    assert set(second.newly_recorded).isdisjoint(first.recorded)
    assert recipe.files == [file.key]
    begun = next(reading.transfer for reading in second.readings if reading.transfer)
    assert begun.downloaded >= sum(part.size for part in first.recorded.values())


async def test_a_stopped_server_does_not_go_on_with_another_file(recipe: Recipe, source: SourceServer) -> None:
    size = 72 * MIB
    url = source.add("/x", film(size=size, rate=60 * MIB))
    first = await stopped(recipe, source, url)
    source.add("/x", film(size=size, seed=2))

    file = await recipe.run(url, first.after_crash())

    assert recipe.bytes_of(file) == content_bytes(size, 2)
    assert recipe.files == [file.key]


async def test_what_was_stored_is_lost_and_the_transfer_starts_over(recipe: Recipe, source: SourceServer) -> None:
    size = 72 * MIB
    url = source.add("/x", film(size=size, rate=60 * MIB))
    first = await stopped(recipe, source, url)
    for name in recipe.files:
        (recipe.folder / name).unlink()
    source.add("/x", film(size=size))

    file = await recipe.run(url, first.after_crash())

    assert recipe.bytes_of(file) == content_bytes(size, 1)
    assert recipe.files == [file.key]


async def test_what_a_stopped_attempt_left_can_be_abandoned(recipe: Recipe, source: SourceServer) -> None:
    first = await stopped(recipe, source, source.add("/x", film(size=72 * MIB, rate=60 * MIB)))

    await recipe.pipeline.abandon(first.saved[-1])

    assert recipe.files == []


@pytest.mark.parametrize("size", [SIZE, LARGE])
async def test_a_crash_between_the_commit_and_the_row_ends_with_one_file(
    recipe: Recipe, source: SourceServer, size: int
) -> None:
    url, first = source.add("/x", film(size=size)), Attempt()
    await recipe.run(url, first)

    file = await recipe.run(url, first.after_crash())

    assert recipe.bytes_of(file) == content_bytes(size, 1)
    assert recipe.files == [file.key]


async def test_an_outcome_that_lost_is_removed(recipe: Recipe, source: SourceServer) -> None:
    outcome = await recipe.outcome(source.add("/x", film()), Attempt())

    await recipe.pipeline.discard(outcome)
    await recipe.pipeline.discard(outcome)

    assert recipe.files == []


# -- media inside JSON


def answer(media: bytes, **around: Any) -> bytes:
    text = "data:image/png;base64," + base64.encodebytes(media).decode()
    return json.dumps({"created": 1, "data": [{"b64_json": text}], **around}).encode()


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("media", [png(), png(text=bytes(range(1, 256)) * 9000)])
async def test_the_field_of_a_json_document_is_ingested(
    recipe: Recipe, source: SourceServer, framing: Any, media: bytes
) -> None:
    url = source.add("/x", Resource(body=answer(media), media_type="application/json", framing=framing))

    file = await recipe.run(url, field="/data/0/b64_json", filename="cat.png")

    assert (file.media_type, file.filename, file.bytes) == ("image/png", "cat.png", len(media))
    assert recipe.bytes_of(file) == media


@pytest.mark.parametrize(
    ("body", "field", "error"),
    [
        (answer(png()), "/data/1/b64_json", InvalidRequest),
        (answer(png())[:-1], "/data/0/b64_json", InvalidRequest),
        (b'{"a":"QUJD*"}', "/a", InvalidBase64),
        (b'{"a":"' + base64.b64encode(bytes(3_000_000)) + b'*"}', "/a", InvalidBase64),
        (b"<html>", "/a", InvalidRequest),
    ],
)
async def test_a_field_that_is_not_there_or_not_right_leaves_nothing(
    recipe: Recipe, source: SourceServer, body: bytes, field: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await recipe.run(source.add("/x", Resource(body=body)), field=field)
    assert recipe.files == []


async def test_a_field_has_its_limit_too(recipe: Recipe, source: SourceServer) -> None:
    url = source.add("/x", Resource(body=answer(png(text=b"x" * 3000))))

    with pytest.raises(TooLarge):
        await recipe.limited(image_bytes=2000).run(url, field="/data/0/b64_json")
    assert recipe.files == []


# -- what may be asked for


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"url": ""},
        {"url": "http://h/", "other": 1},
        {"url": "http://h/", "filename": "x" * 256},
        {"url": "http://h/", "kind": "film"},
        {"url": 5},
    ],
)
def test_a_request_that_is_none(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IngestSpec.model_validate(spec)


@pytest.mark.parametrize("spec", [{"url": "file:///etc/passwd"}, {"url": "http://h/", "field": "data"}])
def test_a_request_that_may_not_be(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        IngestSpec.model_validate(spec)
