"""Who is to blame: the source of a part, or the S3 store; and a store that breaks while it is read."""

from __future__ import annotations

import asyncio

import pytest

from mediagen.core.errors import (
    FetchFailed,
    StorageRefused,
    StorageUnavailable,
)
from mediagen.streams.base import MIB
from mediagen.streams.digest import crc32
from mediagen.streams.parts import BufferBody
from tests.contracts.uploads import (
    ABOUT,
    KEY,
    BytesReader,
    put,
    ranged,
    read,
    the_bytes,
)
from tests.infra.s3 import Bucket
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.faults import (
    CutAnswer,
    Fault,
    LostAnswer,
    Reset,
    StallAnswer,
    Status,
    WrongLength,
    slow_down,
)
from tests.infra.servers.radosgw import RadosGW
from tests.storage.faulty import (
    IMPATIENT,
    PART,
    SIZE,
    WHOLE,
    impatient,
)
from tests.storage.places import S3_PART, S3Place, s3_place

# -- the source's own failures


@pytest.mark.parametrize("tls", [False, True])
async def test_a_source_that_breaks_is_blamed_itself(
    radosgw: RadosGW, bucket: Bucket, fault_proxy: FaultProxyThread, tls: bool
) -> None:
    data = the_bytes(SIZE)
    reader = BytesReader(data, fail_at=MIB)
    endpoint = radosgw.tls_endpoint if tls else fault_proxy.url

    async with s3_place(radosgw, bucket, endpoint_url=endpoint) as place:
        async with place.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink:
            await sink.begin()
            body = ranged(data, 1, sink.part_size, reader)
            with pytest.raises(FetchFailed, match="the source broke"):
                await sink.put_part(1, body)

        assert reader.seeks == [0], "not tried again as if the store had failed"
        assert (await place.keys(), await place.unfinished()) == ([], [])


async def test_a_source_that_breaks_while_the_store_is_silent(
    radosgw: RadosGW, bucket: Bucket, fault_proxy: FaultProxyThread
) -> None:
    """The store's failure first, then the source's at the second try: the latter counts."""
    data = the_bytes(SIZE)
    reader = BytesReader(data, fail_at=10)
    fault_proxy.add(slow_down(), *PART, times=1)

    async with (
        s3_place(radosgw, bucket, endpoint_url=fault_proxy.url) as place,
        place.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink,
    ):
        await sink.begin()
        with pytest.raises(FetchFailed):
            await sink.put_part(1, ranged(data, 1, sink.part_size, reader))


async def test_a_slow_source_is_not_the_stores_fault(
    radosgw: RadosGW, bucket: Bucket, fault_proxy: FaultProxyThread
) -> None:
    """The store's deadline stands still while a part waits for its source."""
    data = the_bytes(SIZE)
    reader = BytesReader(data, stall_at=MIB)

    async with (
        impatient(radosgw, bucket, fault_proxy) as place,
        place.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink,
        asyncio.TaskGroup() as group,
    ):
        await sink.begin()
        work = group.create_task(sink.put_part(1, ranged(data, 1, sink.part_size, reader)))
        await reader.stalled.wait()
        await asyncio.sleep(IMPATIENT["answer_seconds"] * 1.5)
        reader.release.set()
        part = await work

    assert part.crc32 == crc32(data[:S3_PART])
    assert reader.seeks == [0]


# -- reading


@pytest.mark.parametrize(
    "fault",
    [CutAnswer(after=MIB), CutAnswer(after=MIB, reset=True), WrongLength(5), StallAnswer(after=MIB)],
    ids=["end", "reset", "too long", "silence"],
)
async def test_a_download_that_breaks_is_the_stores_failure(
    radosgw: RadosGW, bucket: Bucket, fault_proxy: FaultProxyThread, fault: Fault
) -> None:
    await bucket.put(f"mediagen/{KEY}", the_bytes(4 * MIB))
    fault_proxy.add(fault, "GET")

    async with impatient(radosgw, bucket, fault_proxy) as place:
        with pytest.raises(StorageUnavailable):
            await read(place.storage, KEY)
    if isinstance(fault, StallAnswer):
        fault_proxy.call(fault.release.set)


async def test_a_store_that_ignores_ranges_is_not_believed(broken: S3Place, fault_proxy: FaultProxyThread) -> None:
    await broken.bucket.put(f"mediagen/{KEY}", b"the whole")
    fault_proxy.add(Status(200, b"the whole", {"Content-Type": "video/mp4"}), "GET")

    with pytest.raises(StorageRefused, match="range requests"):
        await read(broken.storage, KEY, offset=4)


async def test_delete_and_head_survive_a_failure(broken: S3Place, fault_proxy: FaultProxyThread) -> None:
    await put(broken.storage, b"x")
    fault_proxy.add(LostAnswer(), "DELETE", times=1)
    fault_proxy.add(slow_down(), "HEAD", times=1)

    assert await broken.storage.head(KEY) is not None
    await broken.storage.delete(KEY)

    assert await broken.keys() == []


async def test_an_object_put_by_others_is_not_taken_for_ours(broken: S3Place, fault_proxy: FaultProxyThread) -> None:
    """The same key, the same length, another token: the lost PUT is not settled by it."""
    data = the_bytes(1000)
    await put(broken.storage, the_bytes(1000, 2))
    fault_proxy.add(Reset(), *WHOLE)

    async with broken.storage.open_sink(KEY, **ABOUT, size=1000) as sink:
        with pytest.raises(StorageUnavailable):
            await sink.put_whole(BufferBody(memoryview(data)))

    assert await broken.bucket.read(f"mediagen/{KEY}") == the_bytes(1000, 2)
