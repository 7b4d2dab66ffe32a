"""Downloads read in parallel ranges: each reader a connection, re-opened where it broke."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import Any

import pytest

from mediagen.core.errors import FetchFailed, SourceChanged, SourceTruncated
from mediagen.core.progress import Transfer
from mediagen.net.download import Download, Fetcher
from mediagen.streams.base import KIB, MIB, StoredPart
from mediagen.streams.meter import Meter
from mediagen.streams.range_lane import move_ranges
from mediagen.streams.transfer import TransferResult
from tests.infra.content import content_bytes
from tests.infra.resource import Answer, Break, Resource, busy, redirect_to
from tests.infra.servers.source import SourceServer
from tests.net.conftest import OpenFetcher
from tests.streams.memory_sink import MemorySink
from tests.streams.targets import THREADS

SIZE = 16 * MIB + 123
WHOLE = content_bytes(SIZE, 1)
PART = 2 * MIB


def film(**changes: Any) -> Resource:
    return Resource(**{"size": SIZE, "seed": 1, **changes})


async def moved(download: Download, sink: MemorySink, *, workers: int = 4) -> tuple[TransferResult, list[Transfer]]:
    """The download moved into the sink over several connections."""
    readings: list[Transfer] = []
    readers = await download.readers()
    assert readers is not None

    async def record(part: StoredPart) -> None:
        """Nothing to remember here."""

    done = await move_ranges(
        download,
        sink,
        readers=readers,
        meter=Meter(readings.append, total=download.size),
        done=[],
        record=record,
        workers=workers,
        threads=THREADS,
    )
    return done, readings


async def fetched(fetcher: Fetcher, url: str, *, workers: int = 4) -> bytes:
    sink = MemorySink(part_size=PART, begun=True, chunk_size=256 * KIB)
    async with fetcher.open(url) as download:
        done, readings = await moved(download, sink, workers=workers)
    assert done.size == readings[-1].downloaded == readings[-1].uploaded == download.size
    return sink.content


async def test_a_film_arrives_over_parallel_connections(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", film())

    assert await fetched(fetcher, url) == WHOLE

    first, *others = source.requests("/x")
    assert first.range == (0, None)
    assert all(request.headers["if-range"].startswith('"') for request in others)
    assert len(others) >= 4
    starts = [request.range[0] for request in others if request.range]
    assert all(start % PART == 0 or start == SIZE // 2 for start in starts)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("after", [MIB + 77, 2 * MIB, 3 * MIB + 1])
async def test_a_source_that_cuts_every_answer_is_resumed_inside_its_parts(
    fetcher: Fetcher, source: SourceServer, how: Any, after: int
) -> None:
    url = source.add("/x", film(breaks=[Break(after, how=how)]))

    assert await fetched(fetcher, url) == WHOLE

    await source.log.reaches(lambda log: all(request.ended for request in log))
    assert len(source.requests("/x")) <= SIZE // after + 2 * 8 + 2
    starts = [request.range[0] for request in source.requests("/x") if request.range]
    assert len(set(starts)) >= len(starts) - 2  # no stretch is asked for twice, but for the one that found out


async def test_resumed_bytes_are_bounded_by_what_was_on_the_way(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", film(breaks=[Break(MIB + 5, how="fin", times=6)], rate=200 * MIB))

    assert await fetched(fetcher, url, workers=2) == WHOLE

    await source.log.reaches(lambda log: all(request.ended for request in log))
    assert source.sent("/x") <= SIZE + 6 * MIB


@pytest.mark.parametrize("refusal", [busy(429), Answer(403), busy(503), Answer(404)])
async def test_a_source_that_lets_one_connection_in_is_read_over_that(
    fetcher: Fetcher, source: SourceServer, refusal: Answer
) -> None:
    url = source.add("/x", film(max_connections=1, refusal=refusal))

    async with fetcher.open(url) as download:
        assert await download.readers() is None
        assert len(source.log) == 2
        out, buffer, sequential = bytearray(), memoryview(bytearray(MIB)), download.sequential()
        while count := await sequential.read_into(buffer):
            out += buffer[:count]
    assert bytes(out) == WHOLE
    assert len(source.log) == 2


async def test_a_link_that_works_once_is_read_over_the_first_connection(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", film(one_time=True))

    async with fetcher.open(url) as download:
        assert await download.readers() is None
        source_of_all, buffer, total = download.sequential(), memoryview(bytearray(MIB)), 0
        while count := await source_of_all.read_into(buffer):
            total += count
    assert total == SIZE


@pytest.mark.parametrize("borne", [2, 3])
async def test_a_source_that_lets_few_connections_in_is_read_over_those(
    fetcher: Fetcher, source: SourceServer, borne: int
) -> None:
    url = source.add("/x", film(max_connections=borne, refusal=busy(429)))

    assert await fetched(fetcher, url, workers=6) == WHOLE


@pytest.mark.parametrize("validator", ["strong", "date"])
@pytest.mark.parametrize("ranges", ["yes", "ignores_if_range"])
async def test_a_source_that_changes_in_between_is_told_apart(
    fetcher: Fetcher, source: SourceServer, validator: Any, ranges: Any
) -> None:
    """Even when it ignores If-Range: parts of two versions never meet in one file."""
    old = {"Date": formatdate(1_800_000_000, usegmt=True)}
    url = source.add("/x", film(validator=validator, ranges=ranges, changes_after=3, headers=old))

    with pytest.raises(SourceChanged):
        await fetched(fetcher, url)
    assert len(source.log) <= 8


async def test_a_source_of_another_size_is_told_apart(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", film(validator="strong"))

    async with fetcher.open(url) as download:
        source.add("/x", film(size=SIZE + 1, ranges="ignores_if_range", validator="none"))
        reader = download.open_reader()
        await reader.seek(100)
        with pytest.raises(SourceChanged):
            await reader.read_into(memoryview(bytearray(10)))
        await reader.aclose()


@pytest.mark.parametrize("ranges", ["no", "claimed"])
async def test_a_source_that_forgets_its_ranges_is_told_apart(
    fetcher: Fetcher, source: SourceServer, ranges: Any
) -> None:
    url = source.add("/x", film())

    async with fetcher.open(url) as download:
        source.add("/x", film(ranges=ranges))
        assert await download.readers() is None


async def test_wrong_ranges_are_never_taken(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", film())

    async with fetcher.open(url) as download:
        source.add("/x", film(ranges="wrong"))
        reader = download.open_reader()
        await reader.seek(1000)
        with pytest.raises(FetchFailed, match="another range"):
            await reader.read_into(memoryview(bytearray(10)))
        assert len(source.requests("/x")) == 4
        await reader.aclose()


async def test_a_compressed_range_is_never_taken(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", film())

    async with fetcher.open(url) as download:
        source.add("/x", film(headers={"Content-Encoding": "gzip"}))
        reader = download.open_reader()
        await reader.seek(1000)
        with pytest.raises(FetchFailed, match="compressed"):
            await reader.read_into(memoryview(bytearray(10)))
        await reader.aclose()


async def test_an_expired_link_is_asked_for_anew_by_every_reader(fetcher: Fetcher, source: SourceServer) -> None:
    source.add("/signed-1", film(one_time=True))
    source.add("/signed-2", film())
    url = source.add("/x", Resource(script=[redirect_to("/signed-1")], always=redirect_to("/signed-2")))

    assert await fetched(fetcher, url) == WHOLE

    assert len(source.requests("/signed-1")) <= 1 + 4
    assert all(request.headers["if-range"] for request in source.requests("/signed-2"))


async def test_readers_that_nobody_took_over_are_closed_with_the_download(
    fetcher: Fetcher, source: SourceServer
) -> None:
    url = source.add("/x", film(breaks=[Break(MIB, how="stall")]))

    async with fetcher.open(url) as download:
        readers = await download.readers()
        assert readers is not None
        assert len(readers) == 2

    await source.log.reaches(lambda log: len(log) == 2 and all(request.ended for request in log))


async def test_a_failure_that_lasts_ends_in_the_tries_allowed(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", film(breaks=[Break(1000, skip=2)]))

    with pytest.raises(SourceTruncated):
        await fetched(fetcher, url)
    assert len(source.log) <= 2 + 3 * 4


async def test_silence_in_one_connection_is_resumed(open_fetcher: OpenFetcher, source: SourceServer) -> None:
    url = source.add("/x", film(breaks=[Break(MIB, how="stall", skip=1, times=3)]))

    async with open_fetcher(stall_seconds=0.5) as fetcher:
        assert await fetched(fetcher, url) == WHOLE


async def test_cancel_in_the_middle_leaves_nothing(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", film(breaks=[Break(MIB, how="stall")]))

    for seconds in (0.0, 0.005, 0.02, 0.05, 0.1):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await fetched(fetcher, url)

    await source.log.reaches(lambda log: all(request.ended for request in log))


async def test_a_reader_can_go_anywhere(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", film())

    async with fetcher.open(url) as download:
        reader, buffer = download.open_reader(), memoryview(bytearray(1000))
        for offset in (SIZE - 10, 0, 5 * MIB, 5 * MIB, 1, SIZE):
            await reader.seek(offset)
            assert bytes(buffer[: await reader.read_into(buffer)]) == WHOLE[offset : offset + 1000]
        await reader.aclose()
        await reader.aclose()


async def test_bytes_that_are_expected_come_over_one_connection(fetcher: Fetcher, source: SourceServer) -> None:
    url = source.add("/x", film())

    async with fetcher.open(url) as download:
        reader, buffer = download.open_reader(), memoryview(bytearray(MIB))
        reader.expect(MIB, 5 * MIB)
        for part in range(1, 5):
            await reader.seek(part * MIB)
            filled = 0
            while filled < MIB:
                filled += await reader.read_into(buffer[filled:])
            assert bytes(buffer) == WHOLE[part * MIB : (part + 1) * MIB]
        await reader.aclose()

    assert [request.range for request in source.log][1:] == [(MIB, 5 * MIB - 1)]
