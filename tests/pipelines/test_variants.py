"""Pictures of stored films: made once, kept with their film, nothing left of those that were not finished."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.errors import NotFound, StorageFull, StorageUnavailable, Unavailable, UnsupportedMedia
from mediagen.core.files import CLAIM, TYPE_FROM, File, FileKind, FileQuery
from mediagen.db.connection import Database
from mediagen.db.files import SqliteFiles
from mediagen.db.ledger import SqliteLedger
from mediagen.db.tasks import SqliteJournal
from mediagen.events.bus import MemoryBus
from mediagen.pipelines.saving.placement import Placement, StoreContext
from mediagen.pipelines.saving.quota import Quota
from mediagen.pipelines.saving.request_upload import RequestUploads
from mediagen.pipelines.settings import LimitsSettings
from mediagen.pipelines.variants import VariantLimits, Variants
from mediagen.storage.base import Storage
from mediagen.storage.s3.storage import S3Storage
from mediagen.streams.base import MIB
from mediagen.streams.digest import crc32
from mediagen.streams.parts import BufferBody
from mediagen.streams.pool import BufferPool
from mediagen.streams.sources import ChunkSource
from mediagen.tasks.deferred_cleanup import Debts
from mediagen.tasks.deletions import Deletions
from mediagen.tasks.dispatcher import LaneDispatcher
from mediagen.tasks.registry import Registry
from tests.infra.process import descendants
from tests.infra.s3 import Bucket
from tests.media.conftest import video, video_folder
from tests.storage.places import LocalPlace, S3Place, local_place, s3_settings

__all__ = ["video", "video_folder"]

Videos = Callable[[str], bytes]


@dataclass
class Archive:
    """Videos in a store, with rows in a database."""

    place: LocalPlace | S3Place
    store: StoreContext
    uploads: RequestUploads
    files: SqliteFiles
    ledger: SqliteLedger
    deletions: Deletions

    @property
    def storage(self) -> Storage:
        return self.store.storage

    async def keep(self, data: bytes, media_type: str = "video/mp4", **changes: Any) -> File:
        placement = replace(
            Placement.make(data[:4096], declared=media_type, filename="../film of mine.mp4", wanted=None),
            media_type=media_type,
            kind=FileKind.VIDEO,
        )

        async def once() -> AsyncIterator[bytes]:
            yield data

        async with self.uploads.save(placement, ChunkSource(once()), owner="anna") as pending:
            file = await self.files.insert(replace(pending.file, **changes))
            pending.claim()
            return file

    def variants(self, **limits: Any) -> Variants:
        return Variants(self.store, self.uploads, self.files, VariantLimits(**limits))

    async def again(self, file: File) -> File:
        found = await self.files.get(file.id)
        assert found is not None
        return found

    async def pictures(self) -> list[str]:
        return [key for key in await self.place.keys() if key.startswith("thumbnails/")]

    async def is_clean(self) -> bool:
        """Nothing unfinished, nothing owed, and no object without a row."""
        listed, _ = await self.files.query(_ALL)
        rows = sorted(each.key for file in listed for each in (file, *file.variants))
        return (await self.place.keys(), await self.place.unfinished(), await self.ledger.owed_aborts(9)) == (
            rows,
            [],
            [],
        )


_ALL = FileQuery(limit=100)


@pytest.fixture(params=["local", "s3"])
def bucket_or_none(request: pytest.FixtureRequest) -> Bucket | None:
    return request.getfixturevalue("bucket") if request.param == "s3" else None


@pytest.fixture
async def archive(bucket_or_none: Bucket | None, tmp_path: Path) -> AsyncIterator[Archive]:
    async with AsyncExitStack() as stack:
        place: LocalPlace | S3Place
        if bucket_or_none is None:
            place = await stack.enter_async_context(local_place(tmp_path / "store"))
        else:
            settings = s3_settings(bucket_or_none.store, bucket_or_none)
            place = S3Place(bucket_or_none, await stack.enter_async_context(S3Storage(settings)))
        yield await stack.enter_async_context(_archive(place, tmp_path))


@asynccontextmanager
async def _archive(place: LocalPlace | S3Place, folder: Path) -> AsyncIterator[Archive]:
    with ThreadPoolExecutor(1) as threads:
        async with Database(folder / "mediagen.db") as database:
            files, ledger = SqliteFiles(database), SqliteLedger(database)
            store = StoreContext(place.storage, BufferPool(16 * MIB), threads, LimitsSettings(), "always")
            registry = Registry(SqliteJournal(database), MemoryBus(1), LaneDispatcher({}))
            debts = Debts(registry, ledger, files, {}, None, boot=1)
            deletions = Deletions(registry, debts, ledger, files, place.storage)
            yield Archive(place, store, RequestUploads(store, ledger, boot=1), files, ledger, deletions)


@pytest.mark.parametrize("name", ["plain.mp4", "index_last.mp4"])
async def test_pictures_are_made_once_and_kept_with_their_film(archive: Archive, video: Videos, name: str) -> None:
    stored = await archive.keep(video(name))
    made = archive.variants()
    async with made.running():
        several = await asyncio.gather(*(made.get_or_create(stored, "thumbnail") for _ in range(5)))
        sheet = await made.get_or_create(stored, "spritesheet")

    picture = several[0]
    assert {each.id for each in several} == {picture.id}
    assert (picture.variant_of, picture.variant, picture.owner, picture.task_id) == (
        stored.id,
        "thumbnail",
        "anna",
        None,
    )
    assert (picture.media_type, picture.width, picture.height) == ("image/webp", 320, 180)
    assert (picture.filename, picture.kind) == ("film of mine-thumbnail.webp", FileKind.IMAGE)
    assert (sheet.media_type, sheet.width, sheet.height) == ("image/jpeg", 1280, 720)
    found = await archive.again(stored)
    assert found.variants == (sheet, picture)
    assert await archive.pictures() == sorted([picture.key, sheet.key])
    assert await archive.is_clean()

    later = archive.variants()  # nothing of it runs: what is there is found without it
    assert await later.get_or_create(found, "thumbnail") == picture
    async with later.running():  # and by one who does not know of it yet
        assert (await later.get_or_create(stored, "spritesheet")).id == sheet.id


async def test_deleting_a_film_deletes_its_pictures(archive: Archive, video: Videos) -> None:
    stored, other = await archive.keep(video("plain.mp4")), await archive.keep(video("short.mp4"))
    made = archive.variants()
    async with made.running():
        for each in (stored, other):
            await made.get_or_create(each, "thumbnail")

        await archive.deletions.delete_file(stored)  # by a row read before there was a picture

        assert await archive.files.get(stored.id) is None
        assert len(await archive.pictures()) == 1
        assert await archive.is_clean()
        with pytest.raises(NotFound):
            await made.get_or_create(stored, "spritesheet")


async def test_a_film_deleted_while_its_picture_is_made_takes_it_along(archive: Archive, video: Videos) -> None:
    stored = await archive.keep(video("plain.mp4"))
    made = archive.variants()
    async with made.running(), asyncio.TaskGroup() as group:
        making = group.create_task(_outcome(made.get_or_create(stored, "thumbnail")))
        await _a_child_runs()
        await archive.deletions.delete_file(stored)

    assert isinstance(making.result(), NotFound | File)  # whichever was first
    assert await archive.files.get(stored.id) is None
    assert await archive.place.keys() == []
    assert await archive.is_clean()


async def test_what_cannot_be_read_is_not_read_again_for_a_while(archive: Archive, video: Videos) -> None:
    stored = await archive.keep(video("sound.mp4"))
    made = archive.variants()
    async with made.running():
        for name in ("thumbnail", "spritesheet"):
            with pytest.raises(UnsupportedMedia, match="no video track"):
                await made.get_or_create(stored, name)
        await archive.storage.delete(stored.key)  # so that whoever looked would see something else

        with pytest.raises(UnsupportedMedia, match="no video track"):
            await made.get_or_create(stored, "thumbnail")

    assert await archive.pictures() == []


async def test_what_may_work_later_is_tried_again(archive: Archive, video: Videos) -> None:
    stored = await archive.keep(video("plain.mp4"))
    await archive.storage.delete(stored.key)
    made = archive.variants()
    async with made.running():
        with pytest.raises(NotFound):
            await made.get_or_create(stored, "thumbnail")
        data = video("plain.mp4")
        async with archive.storage.open_sink(
            stored.key, media_type="video/mp4", token=stored.id, size=len(data)
        ) as sink:
            await sink.put_whole(BufferBody(memoryview(data)))
            await sink.commit([], size=len(data), crc32=crc32(data))

        assert (await made.get_or_create(stored, "thumbnail")).width == 320


async def test_a_file_that_only_claims_to_be_a_film_is_not_opened(archive: Archive) -> None:
    stored = await archive.keep(b"#EXTM3U\nfile:///etc/passwd\n", metadata={TYPE_FROM: CLAIM})
    made = archive.variants()
    async with made.running():
        with pytest.raises(UnsupportedMedia, match="declared type"):
            await made.get_or_create(stored, "thumbnail")


async def test_there_are_so_many_places(archive: Archive, video: Videos) -> None:
    first, second, third = [await archive.keep(video("plain.mp4")) for _ in range(3)]
    made = archive.variants(at_once=1, waiting=1)
    async with made.running(), asyncio.TaskGroup() as group:
        making = [group.create_task(made.get_or_create(each, "thumbnail")) for each in (first, second)]
        await _a_child_runs()

        with pytest.raises(Unavailable) as refused:
            await made.get_or_create(third, "thumbnail")

        assert refused.value.retry_after == 5.0
        assert len(await asyncio.to_thread(_decoders)) <= 1
        await asyncio.gather(*making)
        assert (await made.get_or_create(third, "thumbnail")).width == 320


async def test_a_caller_does_not_wait_for_ever_and_finds_it_done_later(archive: Archive, video: Videos) -> None:
    stored = await archive.keep(video("plain.mp4"))
    made = archive.variants(seconds=0.05)
    async with made.running(), asyncio.timeout(60):
        with pytest.raises(Unavailable, match="still being made") as refused:
            await made.get_or_create(stored, "thumbnail")
        assert refused.value.retry_after == 5.0
        while not (await archive.again(stored)).variants:
            await asyncio.sleep(0.05)

    assert len(await archive.pictures()) == 1
    assert await archive.is_clean()


async def test_a_caller_that_goes_away_stops_nobody_else(archive: Archive, video: Videos) -> None:
    stored = await archive.keep(video("plain.mp4"))
    made = archive.variants()
    async with made.running():
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(_outcome(made.get_or_create(stored, "thumbnail")))
            stays = group.create_task(made.get_or_create(stored, "thumbnail"))
            await _a_child_runs()
            gone.cancel()

        assert stays.result().width == 320


@pytest.mark.parametrize("begun", [False, True])
async def test_a_stop_in_the_middle_leaves_nothing(archive: Archive, video: Videos, begun: bool) -> None:
    stored = await archive.keep(video("plain.mp4"))
    made = archive.variants()
    async with asyncio.TaskGroup() as group, made.running():
        making = group.create_task(_outcome(made.get_or_create(stored, "spritesheet")))
        await (_a_child_runs() if begun else asyncio.sleep(0))

    assert isinstance(making.result(), Unavailable)
    assert await asyncio.to_thread(_decoders) == []
    assert await archive.pictures() == []
    assert await archive.is_clean()
    with pytest.raises(Unavailable):
        await made.get_or_create(stored, "thumbnail")


async def test_a_picture_counts_in_the_store(archive: Archive, video: Videos) -> None:
    stored = await archive.keep(video("plain.mp4"))
    full = Quota(stored.bytes + 10, archive.files.stored_bytes)
    store = replace(archive.store, quota=full)
    made = Variants(store, RequestUploads(store, archive.ledger, boot=1), archive.files)
    async with made.running():
        with pytest.raises(StorageFull):
            await made.get_or_create(stored, "thumbnail")
        full.limit *= 100

        picture = await made.get_or_create(stored, "thumbnail")

    assert await archive.files.stored_bytes() == stored.bytes + picture.bytes
    assert full.reserved == 0


async def _outcome(asked: Any) -> File | Exception:
    try:
        return await asked  # type: ignore[no-any-return]
    except (NotFound, Unavailable, UnsupportedMedia, StorageUnavailable) as exc:
        return exc


def _decoders() -> list[int]:
    """Children of this process that read films."""
    found = []
    for pid in descendants(os.getpid()):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"pipe:0" in words:
            found.append(pid)
    return found


async def _a_child_runs() -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(_decoders):
            await asyncio.sleep(0.005)
