"""What the store may hold: announced and unknown sizes, many at once, rows and what is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from mediagen.core.errors import RateLimited, StorageFull, Unavailable
from mediagen.pipelines.saving.placement import StoreContext
from mediagen.pipelines.saving.quota import STEP, Quota
from mediagen.pipelines.saving.request_upload import RequestUploads
from mediagen.pipelines.settings import LimitsSettings
from mediagen.streams.sources import ChunkSource
from tests.infra.resource import Resource
from tests.infra.servers.source import SourceServer
from tests.pipelines.attempts import Attempt, Debts
from tests.pipelines.conftest import Recipe

MIB = 1 << 20


class Rows:
    """The sum of the rows, in the test's hands."""

    bytes = 0

    async def stored(self) -> int:
        await asyncio.sleep(0)
        return self.bytes


async def pieces(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield bytes(size)


async def read_all(source: object) -> int:
    buffer, total = memoryview(bytearray(4 * MIB)), 0
    while count := await source.read_into(buffer):  # type: ignore[attr-defined]
        total += count
    return total


async def test_what_is_announced_is_reserved_until_it_is_released() -> None:
    rows = Rows()
    quota = Quota(100, rows.stored)

    first = await quota.reserve(60)
    with pytest.raises(StorageFull) as full:
        await quota.reserve(41)
    second = await quota.reserve(40)

    assert "limits.store_bytes" in full.value.detail
    assert not full.value.retryable
    rows.bytes = 60
    first.release()
    first.release()
    assert quota.reserved == 40
    with pytest.raises(StorageFull):
        await quota.reserve(1)
    rows.bytes = 0  # deleted
    second.release()
    assert (await quota.reserve(100)).size == 100


async def test_many_at_once_never_go_over() -> None:
    quota = Quota(1000, Rows().stored)

    got = await asyncio.gather(*(quota.reserve(300) for _ in range(20)), return_exceptions=True)

    assert sum(isinstance(one, StorageFull) for one in got) == 17
    assert quota.reserved == 900


async def test_an_unknown_size_reserves_as_it_comes() -> None:
    quota = Quota(3 * STEP, Rows().stored)
    room = await quota.reserve(None)
    other = await quota.reserve(STEP // 2)

    source = room.around(ChunkSource(pieces(*([MIB] * 12))))

    assert await read_all(source) == 12 * MIB
    assert 12 * MIB <= room.size <= 3 * STEP - STEP // 2
    room.release()
    other.release()
    assert quota.reserved == 0


async def test_a_file_may_fill_the_store_to_the_last_byte() -> None:
    quota = Quota(1000, Rows().stored)
    room = await quota.reserve(None)

    assert await read_all(room.around(ChunkSource(pieces(600, 400)))) == 1000
    room.release()

    room = await quota.reserve(None)
    with pytest.raises(StorageFull):
        await read_all(room.around(ChunkSource(pieces(600, 401))))
    room.release()
    assert quota.reserved == 0


async def test_without_a_limit_nothing_is_asked() -> None:
    async def never() -> int:
        raise AssertionError("asked")

    room = await Quota(0, never).reserve(None)
    source = ChunkSource(pieces(5))

    assert room.around(source) is source


# -- the recipes


def within(store: StoreContext, limit: int, rows: Rows) -> StoreContext:
    return replace(store, quota=Quota(limit, rows.stored))


@pytest.mark.parametrize(
    "resource", [Resource(size=20 * MIB), Resource(size=20 * MIB, ranges="no")], ids=["ranges", "buffers"]
)
async def test_a_download_that_is_too_large_is_refused_at_once(
    recipe: Recipe, source: SourceServer, resource: Resource
) -> None:
    url = source.add("/film", resource)
    small = replace(recipe, store=within(recipe.store, 20 * MIB - 1, Rows()))

    with pytest.raises(StorageFull):
        await small.run(url)

    assert small.files == []
    assert small.store.quota.reserved == 0


async def test_a_download_of_unknown_size_stops_where_the_room_ends(recipe: Recipe, source: SourceServer) -> None:
    url = source.add("/film", Resource(size=12 * MIB, framing="chunked", ranges="no"))
    small = replace(recipe, store=within(recipe.store, 10 * MIB, Rows()))

    with pytest.raises(StorageFull):
        await small.run(url)

    assert small.files == []
    assert small.store.quota.reserved == 0


async def test_an_outcome_keeps_its_room_until_it_is_a_row(recipe: Recipe, source: SourceServer) -> None:
    url, rows = source.add("/film", Resource(size=2 * MIB)), Rows()
    exact = replace(recipe, store=within(recipe.store, 2 * MIB, rows))

    outcome = await exact.outcome(url, Attempt())

    assert exact.store.quota.reserved == 2 * MIB
    with pytest.raises(StorageFull):
        await exact.store.quota.reserve(1)
    rows.bytes = 2 * MIB
    outcome.release()
    assert exact.store.quota.reserved == 0


@pytest.mark.parametrize("announced", [True, False])
async def test_an_upload_holds_its_room_until_it_is_a_row(store: StoreContext, announced: bool) -> None:
    rows = Rows()
    full = within(store, 1000, rows)
    uploads = RequestUploads(full, Debts(), boot=1)
    source = ChunkSource(pieces(700), size=700 if announced else None)

    async with uploads.receive(source, filename="a", declared=None) as pending:
        assert full.quota.reserved >= 700
        rows.bytes = pending.file.bytes
        pending.claim()

    assert full.quota.reserved == 0
    with pytest.raises(StorageFull):
        async with uploads.receive(ChunkSource(pieces(301), size=301), filename="b", declared=None):
            raise AssertionError("it was taken")
    assert full.quota.reserved == 0


async def test_an_announced_upload_is_refused_before_a_byte_is_read(store: StoreContext) -> None:
    asked: list[int] = []

    async def unread() -> AsyncIterator[bytes]:
        asked.append(1)
        yield bytes(11)

    uploads = RequestUploads(within(store, 10, Rows()), Debts(), boot=1)

    with pytest.raises(StorageFull):
        async with uploads.receive(ChunkSource(unread(), size=11), filename="a", declared=None):
            raise AssertionError("it was taken")

    assert asked == []


def _take_a_place(uploads: RequestUploads, network: str) -> None:
    with uploads.slot(network):
        pass


async def test_uploads_have_places_and_no_network_has_them_all(store: StoreContext) -> None:
    few = RequestUploads(replace(store, limits=LimitsSettings(uploads_at_once=3)), Debts(), boot=1)

    with few.slot("a"), few.slot("a"):
        with pytest.raises(RateLimited) as enough:
            _take_a_place(few, "a")
        with few.slot("b"):
            with pytest.raises(Unavailable) as all_taken:
                _take_a_place(few, "c")
            assert few.active == 3

    assert enough.value.retry_after
    assert all_taken.value.retry_after
    assert few.active == 0
    _take_a_place(few, "a")
