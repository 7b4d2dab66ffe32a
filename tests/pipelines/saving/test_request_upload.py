"""Content that comes inside a request: what stays when it fails at any point, and what is owed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediagen.core.errors import StorageUnavailable, TooLarge, Unavailable
from mediagen.core.files import FileKind
from mediagen.pipelines.saving.placement import StoreContext, remove
from mediagen.pipelines.saving.request_upload import NO_BOOT, RequestUploads
from mediagen.streams.base import MIB
from mediagen.streams.sources import ChunkSource
from tests.infra.content import content_bytes
from tests.pipelines.attempts import Debts, files_below
from tests.streams.formats.files import png

WHOLE = content_bytes(3 * MIB + 7, 4)


@pytest.fixture
def debts() -> Debts:
    return Debts()


@pytest.fixture
def uploads(store: StoreContext, debts: Debts) -> RequestUploads:
    return RequestUploads(store, debts, boot=7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


async def arriving(data: bytes, end: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65_536):
        await asyncio.sleep(0)
        yield data[start : start + 65_536]
    if end is not None:
        raise end


def source(data: bytes, *, announced: bool = False, end: Exception | None = None) -> ChunkSource:
    return ChunkSource(arriving(data, end), size=len(data) if announced else None)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("data", [b"", b"x", png(), WHOLE], ids=range(4))
async def test_what_comes_is_kept(
    uploads: RequestUploads, debts: Debts, folder: Path, data: bytes, announced: bool
) -> None:
    async with uploads.receive(
        source(data, announced=announced), filename="../a b.bin", declared=None, owner="me"
    ) as pending:
        file = pending.file
        ((_, debt),) = await debts.owed_aborts(9)  # a crash now would leave what is recorded
        assert (debt["boot"], debt["checkpoint"]["file_id"]) == (7, file.id)
        pending.claim()

    assert (file.filename, file.bytes, file.owner, file.task_id) == ("a b.bin", len(data), "me", None)
    assert file.kind is (FileKind.IMAGE if data == png() else FileKind.OTHER)
    assert (folder / file.key).read_bytes() == data
    assert (files_below(folder), debts.owed) == ([file.key], {})


async def test_an_announced_size_over_the_limit_of_its_kind_is_refused_before_anything_is_owed(
    uploads: RequestUploads, debts: Debts, folder: Path
) -> None:
    large = ChunkSource(arriving(png()), size=50 * MIB + 1)  # more than an image may have

    with pytest.raises(TooLarge, match="announced"):
        async with uploads.receive(large, filename="", declared=None):
            raise AssertionError("received")

    assert (debts.count, files_below(folder)) == (0, [])


@pytest.mark.parametrize("error", [ConnectionResetError(), Unavailable("no disk")])
async def test_what_breaks_off_leaves_nothing(
    uploads: RequestUploads, debts: Debts, folder: Path, error: Exception
) -> None:
    with pytest.raises(type(error)):
        async with uploads.receive(source(WHOLE, end=error), filename="", declared=None):
            raise AssertionError("received")

    assert (debts.owed, files_below(folder)) == ({}, [])


async def test_a_row_that_cannot_be_written_takes_the_object_with_it(
    uploads: RequestUploads, debts: Debts, folder: Path
) -> None:
    async def refused() -> None:
        async with uploads.receive(source(WHOLE), filename="", declared=None) as pending:
            assert files_below(folder) == [pending.file.key]
            raise Unavailable("full")

    with pytest.raises(Unavailable, match="full"):
        await refused()

    assert (debts.owed, files_below(folder)) == ({}, [])


async def test_a_file_that_is_not_claimed_is_removed(uploads: RequestUploads, debts: Debts, folder: Path) -> None:
    async with uploads.receive(source(WHOLE), filename="", declared=None) as pending:
        assert files_below(folder) == [pending.file.key]

    assert (debts.owed, files_below(folder)) == ({}, [])


@pytest.mark.parametrize("error", [Unavailable("full"), asyncio.CancelledError()])
async def test_a_claimed_file_stays_whatever_happens_then(
    uploads: RequestUploads, debts: Debts, folder: Path, error: BaseException
) -> None:
    async def claimed() -> None:
        async with uploads.receive(source(WHOLE), filename="", declared=None) as pending:
            pending.claim()
            raise error

    with pytest.raises(type(error)):
        await claimed()

    assert (debts.owed, len(files_below(folder))) == ({}, 1)


async def test_what_cannot_be_removed_at_once_is_owed_to_whoever_comes_next(
    uploads: RequestUploads, store: StoreContext, debts: Debts, folder: Path
) -> None:
    """The cause is raised, not the failure of the removal; and this start may settle the debt, not only the next."""

    async def refused() -> None:
        async with uploads.receive(source(WHOLE), filename="", declared=None) as pending:
            os.rename(folder / pending.file.key, folder / "kept")
            os.mkdir(folder / pending.file.key)
            raise Unavailable("full")

    with pytest.raises(Unavailable, match="full"):
        await refused()

    ((_, debt),) = await debts.owed_aborts(9)
    key = debt["checkpoint"]["key"]
    assert debt["boot"] == NO_BOOT
    with pytest.raises(StorageUnavailable):
        await remove(store.storage, debt["checkpoint"])
    os.rmdir(folder / key)
    os.rename(folder / "kept", folder / key)
    await remove(store.storage, debt["checkpoint"])
    assert files_below(folder) == []
