"""Objects on local disk: what the contract does not know of."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.errors import NotFound, StorageFull, StorageRefused, StorageUnavailable, UploadLost
from mediagen.storage.local.storage import LocalSink, LocalStorage
from mediagen.streams.base import MIB, Sink, StoredPart
from mediagen.streams.digest import crc32
from mediagen.streams.parts import BufferBody
from mediagen.streams.transfer import still_stored
from tests.contracts.uploads import (
    ABOUT,
    KEY,
    ODD,
    TOKEN,
    BytesReader,
    buffered,
    cancelled,
    commit,
    put,
    put_parts,
    ranged,
    read,
    the_bytes,
)
from tests.storage.places import LOCAL_PART, LocalPlace, local_place

TEMP = f"{TOKEN}.part"
SIZE = 2 * LOCAL_PART + ODD


def open_files() -> dict[str, int]:
    """How many descriptors of this process are open on each path."""
    found: dict[str, int] = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            path = str(entry.readlink())
        except FileNotFoundError:
            continue
        found[path] = found.get(path, 0) + 1
    return {path: count for path, count in found.items() if "media" in path}


async def left_for_later(place: LocalPlace, data: bytes, numbers: list[int]) -> tuple[dict[str, Any], list[StoredPart]]:
    async with place.storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
        await sink.begin()
        recorded = await put_parts(sink, data, numbers)
        sink.detach()
    return dict(sink.state), recorded


# -- who may look


def test_files_and_folders_are_for_us_alone(tmp_path: Path) -> None:
    async def store() -> None:
        async with local_place(tmp_path / "deep" / "media") as place:
            await put(place.storage, b"x", key="assets/images/a.png")
            async with place.storage.open_sink(KEY, **ABOUT, size=9, parallel=True) as sink:
                await sink.begin()
                sink.detach()

    before = os.umask(0)
    try:
        asyncio.run(store())
    finally:
        os.umask(before)

    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {path for path, mode in modes.items() if mode != (0o700 if (tmp_path / path).is_dir() else 0o600)} == set()
    assert len(modes) == 7


# -- what others put in the way


@pytest.mark.parametrize("target", ["nowhere", "a file", "the unfinished file", "a folder"])
async def test_a_symlink_under_the_key_is_not_followed(local: LocalPlace, tmp_path: Path, target: str) -> None:
    bystander = tmp_path / "bystander"
    bystander.write_bytes(b"not ours")
    link = local.root / KEY
    link.parent.mkdir()
    targets = {
        "nowhere": tmp_path / "missing",
        "a file": bystander,
        "the unfinished file": local.root / ".uploads" / TEMP,
        "a folder": tmp_path,
    }
    link.symlink_to(targets[target])

    with pytest.raises(StorageRefused):
        async with local.storage.open_sink(KEY, **ABOUT, size=1000) as sink:
            await buffered(sink, the_bytes(1000))

    assert link.is_symlink()
    assert bystander.read_bytes() == b"not ours"
    assert not (tmp_path / "missing").exists()
    assert await local.unfinished() == []
    assert await local.storage.head(KEY) is None
    with pytest.raises(NotFound):
        await read(local.storage, KEY)


async def test_a_symlink_in_place_of_the_unfinished_file_is_not_followed(local: LocalPlace, tmp_path: Path) -> None:
    bystander = tmp_path / "bystander"
    bystander.write_bytes(b"not ours")
    (local.root / ".uploads" / TEMP).symlink_to(bystander)

    with pytest.raises(StorageRefused):
        async with local.storage.open_sink(KEY, **ABOUT, size=1000) as sink:
            await buffered(sink, the_bytes(1000))
    with pytest.raises(StorageUnavailable):
        async with local.storage.open_sink(
            KEY, **ABOUT, size=1000, resume={"key": KEY, "token": TOKEN, "part_size": LOCAL_PART}
        ):
            pass

    assert bystander.read_bytes() == b"not ours"
    assert await local.keys() == []


@pytest.mark.parametrize("kind", ["folder", "pipe", "symlink"])
async def test_what_is_no_regular_file_is_no_object(local: LocalPlace, kind: str) -> None:
    path = local.root / KEY
    path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/etc/hostname")

    assert await local.storage.head(KEY) is None
    with pytest.raises(NotFound):
        await read(local.storage, KEY)
    assert open_files().get(str(path)) is None


async def test_an_object_is_never_replaced(local: LocalPlace) -> None:
    await put(local.storage, b"first")

    with pytest.raises(StorageRefused, match="already"):
        async with local.storage.open_sink(KEY, **ABOUT, size=6) as sink:
            await buffered(sink, b"second")

    assert await read(local.storage, KEY) == b"first"
    assert await local.unfinished() == []


async def test_a_second_upload_with_the_same_token_leaves_the_first_alone(local: LocalPlace) -> None:
    async with local.storage.open_sink(KEY, **ABOUT, size=5) as first:
        await first.put_whole(BufferBody(memoryview(b"first")))
        with pytest.raises(StorageRefused):
            async with local.storage.open_sink(KEY, **ABOUT, size=6) as second:
                await second.put_whole(BufferBody(memoryview(b"second")))
        await first.commit([], size=5, crc32=crc32(b"first"))

    assert await read(local.storage, KEY) == b"first"


async def test_the_order_of_calls_is_kept(local: LocalPlace) -> None:
    async with local.storage.open_sink(KEY, **ABOUT, size=1) as sink:
        with pytest.raises(RuntimeError):
            await sink.put_part(1, BufferBody(memoryview(b"x")))
        with pytest.raises(RuntimeError):
            await sink.commit([], size=1, crc32=0)


async def test_a_file_that_was_cut_is_not_published(local: LocalPlace) -> None:
    async with local.storage.open_sink(KEY, **ABOUT, size=1000) as sink:
        await sink.put_whole(BufferBody(memoryview(the_bytes(1000))))
        os.truncate(local.root / ".uploads" / TEMP, 999)
        with pytest.raises(StorageUnavailable, match="999 bytes instead of 1000"):
            await sink.commit([], size=1000, crc32=0)

    assert (await local.keys(), await local.unfinished()) == ([], [])


async def test_an_unfinished_file_that_somebody_removed_is_lost(local: LocalPlace) -> None:
    async with local.storage.open_sink(KEY, **ABOUT, size=1000) as sink:
        await sink.put_whole(BufferBody(memoryview(the_bytes(1000))))
        (local.root / ".uploads" / TEMP).unlink()
        with pytest.raises(UploadLost):
            await sink.commit([], size=1000, crc32=0)

    assert await local.keys() == []


async def test_without_its_folder_the_store_is_unavailable(tmp_path: Path) -> None:
    async with local_place(tmp_path / "media") as place:
        (place.root / ".uploads").rmdir()
        with pytest.raises(StorageUnavailable, match="gone"):
            async with place.storage.open_sink(KEY, **ABOUT, size=1) as sink:
                await sink.begin()
        place.root.rmdir()
        with pytest.raises(StorageUnavailable, match="gone"):
            await place.storage.check()
        assert await place.storage.head(KEY) is None


async def test_sweep_removes_what_dead_runs_left_and_nothing_else(local: LocalPlace) -> None:
    uploads = local.root / ".uploads"
    for name in (TEMP, "dead_upload_1.part", "dead_upload_2.part", "notes.txt", "a b.part"):
        (uploads / name).write_bytes(b"x")
    (uploads / "lost_and_found.part").mkdir()
    (uploads / "dead_link_3.part").symlink_to("/etc/hostname")
    await put(local.storage, b"object", key="videos/x")

    removed = await local.storage.sweep([{"key": KEY, "token": TOKEN}])

    assert removed == 3
    assert sorted(await local.unfinished()) == ["a b.part", TEMP, "lost_and_found.part", "notes.txt"]
    assert await local.keys() == ["videos/x"]
    (uploads / "lost_and_found.part").rmdir()


# -- full and broken disks


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of ``size`` in memory."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("mounting a small disk needs the rights of root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "20m") as folder:
        yield folder


@pytest.mark.parametrize("announced", [True, False])
async def test_a_full_disk_is_said_and_nothing_stays(disk: Path, announced: bool) -> None:
    data = the_bytes(24 * MIB)

    async with local_place(disk / "media") as place:
        await put(place.storage, b"before", key="videos/before")
        with pytest.raises(StorageFull):
            async with place.storage.open_sink(KEY, **ABOUT, size=len(data) if announced else None) as sink:
                await buffered(sink, data, announced=announced)
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize

        assert (await place.keys(), await place.unfinished()) == (["videos/before"], [])
        assert free > 19 * MIB
        await put(place.storage, b"after", key="videos/after")
        assert await read(place.storage, "videos/before") == b"before"
        assert await read(place.storage, "videos/after") == b"after"


async def test_a_resumed_upload_needs_room_only_for_the_rest(disk: Path) -> None:
    data = the_bytes(16 * MIB)

    async with local_place(disk / "media") as place:
        state, recorded = await left_for_later(place, data, [1])
        async with place.storage.open_sink(
            KEY, **ABOUT, size=len(data), parallel=True, resume=state, recorded=recorded
        ) as sink:
            await commit(sink, still_stored(recorded, sink) + await put_parts(sink, data, [2]))

        assert await read(place.storage, KEY) == data


async def test_a_resume_without_room_keeps_what_is_there(disk: Path) -> None:
    data = the_bytes(16 * MIB)

    async with local_place(disk / "media") as place:
        state, recorded = await left_for_later(place, data, [1])
        before = open_files()
        async with LocalStorage(place.root, reserve=5 * MIB) as cautious:
            with pytest.raises(StorageFull):
                async with cautious.open_sink(
                    KEY, **ABOUT, size=len(data), parallel=True, resume=state, recorded=recorded
                ):
                    pass

        assert open_files() == before
        assert await place.unfinished() == [TEMP]


async def test_the_reserve_is_never_used_up(disk: Path) -> None:
    async with LocalStorage(disk / "media", reserve=15 * MIB) as storage:
        await storage.check()
        with pytest.raises(StorageFull, match="reserve"):
            async with storage.open_sink(KEY, **ABOUT, size=6 * MIB):
                pass
        async with storage.open_sink(KEY, **ABOUT, size=4 * MIB) as sink:
            await buffered(sink, the_bytes(4 * MIB))

    async with LocalStorage(disk / "media", reserve=17 * MIB) as storage:
        with pytest.raises(StorageFull):
            await storage.check()
        with pytest.raises(StorageFull):
            async with storage.open_sink("videos/other", **ABOUT, size=None):
                pass


async def test_a_limit_on_file_size_counts_as_full(local: LocalPlace) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
    try:
        with pytest.raises(StorageFull):
            async with local.storage.open_sink(KEY, **ABOUT, size=None) as sink:
                await buffered(sink, the_bytes(3 * MIB), announced=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert await local.unfinished() == []


def unwritable(sink: Sink) -> None:
    """Every read and write of the unfinished file fails with EIO from now on, as on a broken disk."""
    assert isinstance(sink, LocalSink)
    assert sink._fd is not None
    memory = os.open("/proc/self/mem", os.O_RDWR)  # nothing is mapped at its beginning
    os.dup2(memory, sink._fd, inheritable=False)
    os.close(memory)


async def test_a_broken_disk_is_said_and_nothing_stays(local: LocalPlace) -> None:
    before = open_files()

    async with local.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink:
        await sink.begin()
        unwritable(sink)
        with pytest.raises(StorageUnavailable) as caught:
            await put_parts(sink, the_bytes(SIZE), [1])

    assert caught.value.context["errno"] == errno.EIO
    assert caught.value.retryable
    assert not isinstance(caught.value, StorageFull)
    assert (await local.keys(), await local.unfinished()) == ([], [])
    assert open_files() == before


# -- cancelled while a thread is at work


class Gate:
    """Holds a call of the operating system in its thread until it is opened: a disk that takes its time."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, *, skip: int = 0) -> None:
        self._real: Callable[..., Any] = getattr(os, name)
        self._skip = skip
        self.entered = threading.Event()
        self.open = threading.Event()
        patch.setattr(os, name, self._call)

    def _call(self, *args: Any, **options: Any) -> Any:
        if threading.current_thread().name.startswith("disk"):
            self._skip -= 1
            if self._skip < 0:
                self.entered.set()
                assert self.open.wait(10)
        return self._real(*args, **options)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 10)


async def upload_whole(storage: LocalStorage, data: bytes, *, detach: bool = False) -> None:
    async with storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
        try:
            await sink.begin()
            await commit(sink, await put_parts(sink, data, [1]))
        except asyncio.CancelledError:
            if detach:
                sink.detach()
            raise


@pytest.mark.parametrize("call", ["open", "pwrite", "fsync", "link"])
@pytest.mark.parametrize("again", [False, True])
async def test_cancelled_in_a_disk_call(
    local: LocalPlace, monkeypatch: pytest.MonkeyPatch, call: str, again: bool
) -> None:
    """The file stays open until the thread is through; then nothing is left, also of a commit that went on."""
    before = open_files()
    with monkeypatch.context() as patch:
        gate = Gate(patch, call)
        async with asyncio.TaskGroup() as group:
            work = group.create_task(upload_whole(local.storage, the_bytes(MIB)))
            await gate.reached()
            work.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            assert not work.done()
            if call != "open":
                assert open_files() != before
            if again:
                await cancelled(work)  # goes at once; the clean-up comes to its end all the same
            gate.open.set()
            if not again:
                await cancelled(work)

    await local.storage.finishing.wait()
    assert (await local.keys(), await local.unfinished()) == ([], [])
    assert open_files() == before


async def test_the_store_closes_after_the_last_clean_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        gate = Gate(patch, "pwrite")
        async with local_place(tmp_path / "media") as place, asyncio.TaskGroup() as group:
            work = group.create_task(upload_whole(place.storage, the_bytes(MIB)))
            await gate.reached()
            work.cancel()
            await asyncio.sleep(0.01)
            await cancelled(work)
            gate.open.set()

    assert await place.unfinished() == []


async def test_stopped_in_the_commit_the_object_is_found_at_the_next_start(
    local: LocalPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = the_bytes(MIB)
    with monkeypatch.context() as patch:
        gate = Gate(patch, "link")
        async with asyncio.TaskGroup() as group:
            work = group.create_task(upload_whole(local.storage, data, detach=True))
            await gate.reached()
            work.cancel()
            gate.open.set()
            await cancelled(work)

    state = {"key": KEY, "token": TOKEN, "part_size": LOCAL_PART}
    async with local.storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True, resume=state) as sink:
        assert sink.committed
    assert await read(local.storage, KEY) == data
    assert await local.unfinished() == []


@pytest.mark.parametrize("call", ["open", "pread"])
async def test_a_reader_that_goes_away_leaves_no_file_open(
    local: LocalPlace, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    await put(local.storage, the_bytes(1000))
    before = open_files()
    buffer = bytearray(b"\xee" * 1000)

    async def take() -> None:
        async with local.storage.open_source(KEY) as source:
            await source.read_into(memoryview(buffer))

    with monkeypatch.context() as patch:
        gate = Gate(patch, call)
        async with asyncio.TaskGroup() as group:
            work = group.create_task(take())
            await gate.reached()
            work.cancel()
            gate.open.set()
            await cancelled(work)

    assert open_files() == before
    assert buffer == b"\xee" * 1000, "the buffer may be somebody else's by now"


# -- resume


async def damage(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("how", ["flipped", "cut", "never written"])
async def test_parts_whose_bytes_are_not_there_are_sent_again(local: LocalPlace, how: str) -> None:
    data = the_bytes(SIZE)
    state, recorded = await left_for_later(local, data, [1, 2, 3])
    temp = local.root / ".uploads" / TEMP
    if how == "flipped":
        await damage(temp, LOCAL_PART + 77)
    elif how == "cut":  # power went before the last pages were on the disk
        os.truncate(temp, LOCAL_PART + 100)
    else:
        with temp.open("r+b") as file:
            file.truncate(LOCAL_PART)
            file.truncate(SIZE)

    async with local.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True, resume=state, recorded=recorded) as sink:
        done = still_stored(recorded, sink)
        missing = sorted({1, 2, 3} - {part.number for part in done})
        await commit(sink, done + await put_parts(sink, data, missing))

    assert missing == ([2] if how == "flipped" else [2, 3])
    assert await read(local.storage, KEY) == data


async def test_a_crash_between_the_two_names_is_repaired(local: LocalPlace) -> None:
    data = the_bytes(SIZE)
    state, recorded = await left_for_later(local, data, [1, 2, 3])
    target = local.root / KEY
    target.parent.mkdir()
    target.hardlink_to(local.root / ".uploads" / TEMP)

    async with local.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True, resume=state, recorded=recorded) as sink:
        await commit(sink, still_stored(recorded, sink))

    assert await read(local.storage, KEY) == data
    assert await local.unfinished() == []
    assert target.stat().st_nlink == 1


async def test_a_resume_that_cannot_read_keeps_the_file(local: LocalPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    data = the_bytes(SIZE)
    state, recorded = await left_for_later(local, data, [1])
    before = open_files()

    def broken(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", broken)
        with pytest.raises(StorageUnavailable):
            async with local.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True, resume=state, recorded=recorded):
                pass

    assert open_files() == before
    assert await local.unfinished() == [TEMP]


async def test_one_byte_at_a_time_is_written_where_it_belongs(local: LocalPlace) -> None:
    data = the_bytes(300)

    async with local.storage.open_sink(KEY, **ABOUT, size=300, parallel=True) as sink:
        await sink.begin()
        part = await sink.put_part(1, ranged(data, 1, sink.part_size, BytesReader(data, chunk=1)))
        await commit(sink, [part])

    assert await read(local.storage, KEY) == data
