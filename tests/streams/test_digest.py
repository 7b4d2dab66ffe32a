from __future__ import annotations

import asyncio
import hashlib
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.streams.base import StoredPart
from mediagen.streams.digest import BackgroundSha256, combine_crc32, crc32, crc32_checksum
from tests.infra.content import content_bytes
from tests.streams.json.splitting import splits

LARGE = content_bytes(300_000, 1)
SMALL = content_bytes(1000, 2)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def busy(threads: ThreadPoolExecutor) -> Iterator[threading.Event]:
    """All hashing threads are busy until this is set."""
    release = threading.Event()
    for _ in range(2):
        threads.submit(release.wait, 20)
    yield release
    release.set()


@given(st.binary(max_size=200), st.data())
def test_crc32_is_the_standard_librarys_and_combines(data: bytes, draw: st.DataObject) -> None:
    pieces = draw.draw(splits(data))
    value = 0
    for piece in pieces:
        value = crc32(piece, value)
    parts = [StoredPart(number, len(piece), crc32(piece), "") for number, piece in enumerate(pieces, 1)]

    assert value == combine_crc32(parts) == zlib.crc32(data)
    assert crc32_checksum(value).value == f"{zlib.crc32(data):08x}"


async def test_parts_are_hashed_in_their_order_though_small_ones_need_no_thread(threads: ThreadPoolExecutor) -> None:
    line, parts = BackgroundSha256("auto", threads), [LARGE, SMALL, LARGE, SMALL, SMALL]

    async with asyncio.TaskGroup() as group:
        hashed = [line.add(memoryview(part), group) for part in parts]

    for task in hashed:
        await line.settle(task, last=False)
    assert line.hexdigest() == hashlib.sha256(b"".join(parts)).hexdigest()


async def test_auto_keeps_the_digest_while_hashing_keeps_up(threads: ThreadPoolExecutor) -> None:
    line = BackgroundSha256("auto", threads)

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            hashed = line.add(memoryview(LARGE), group)
            assert hashed is not None
            await hashed
            await line.settle(hashed, last=False)

    assert line.hexdigest() == hashlib.sha256(LARGE * 5).hexdigest()


async def test_auto_waits_for_the_last_part_alone(threads: ThreadPoolExecutor, busy: threading.Event) -> None:
    line = BackgroundSha256("auto", threads)

    async with asyncio.TaskGroup() as group:
        hashed = line.add(memoryview(LARGE), group)
        settled = group.create_task(line.settle(hashed, last=True))
        await asyncio.sleep(0)
        assert not settled.done()
        busy.set()

    assert line.hexdigest() == hashlib.sha256(LARGE).hexdigest()


async def test_auto_gives_the_digest_up_rather_than_wait_before_the_last_part(
    threads: ThreadPoolExecutor, busy: threading.Event
) -> None:
    line = BackgroundSha256("auto", threads)

    async with asyncio.TaskGroup() as group:
        first = line.add(memoryview(LARGE), group)
        second = line.add(memoryview(SMALL), group)
        await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await line.settle(first, last=False)
        assert line.add(memoryview(LARGE), group) is None
        busy.set()
        async with asyncio.timeout(5):
            await line.settle(second, last=True)

    assert line.hexdigest() is None


async def test_always_waits(threads: ThreadPoolExecutor, busy: threading.Event) -> None:
    line = BackgroundSha256("always", threads)

    async with asyncio.TaskGroup() as group:
        hashed = line.add(memoryview(LARGE), group)
        settled = group.create_task(line.settle(hashed, last=False))
        await asyncio.sleep(0)
        assert not settled.done()
        busy.set()

    assert line.hexdigest() == hashlib.sha256(LARGE).hexdigest()


async def test_never_hashes_nothing(threads: ThreadPoolExecutor) -> None:
    line = BackgroundSha256("never", threads)

    async with asyncio.TaskGroup() as group:
        assert line.add(memoryview(LARGE), group) is None
        await line.settle(None, last=True)

    assert line.hexdigest() is None


async def test_nothing_has_the_digest_of_nothing(threads: ThreadPoolExecutor) -> None:
    assert BackgroundSha256("auto", threads).hexdigest() == hashlib.sha256().hexdigest()
