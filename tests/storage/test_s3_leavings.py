"""Nothing stays in an S3 store of what is lost, cancelled or abandoned; what cannot be removed is said."""

from __future__ import annotations

import asyncio

import pytest

from mediagen.core.errors import (
    StorageUnavailable,
    UploadLost,
)
from mediagen.storage.s3 import sink as s3_sink
from tests.contracts.uploads import (
    ABOUT,
    KEY,
    cancelled,
    put_parts,
    ranged,
    the_bytes,
)
from tests.infra.s3 import Bucket
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.faults import (
    BlackHole,
    Fault,
    Latency,
    LostAnswer,
    Reset,
    Status,
    s3_error,
)
from tests.infra.servers.radosgw import RadosGW
from tests.storage.faulty import (
    ABORT,
    COMPLETE,
    CREATE,
    PART,
    PARTS,
    SIZE,
    WHOLE,
    through_buffers,
)
from tests.storage.places import S3Place, s3_place

# -- uploads that vanish or will not go


async def test_an_upload_that_vanishes_midway_is_lost_at_once(broken: S3Place, fault_proxy: FaultProxyThread) -> None:
    data = the_bytes(SIZE)

    async with broken.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink:
        await sink.begin()
        await put_parts(sink, data, [1])
        await broken.bucket.empty()
        fault_proxy.log.clear()
        with pytest.raises(UploadLost):
            await sink.put_part(2, ranged(data, 2, sink.part_size))  # so short that it does not race with the answer
        asked = [entry for entry in fault_proxy.log if entry.method == "PUT"]

    assert len(asked) == 1
    assert not sink.left_behind
    assert (await broken.keys(), await broken.unfinished()) == ([], [])


@pytest.mark.parametrize("fault", [LostAnswer(), LostAnswer(reset=False)])
async def test_an_upload_announced_twice_leaves_no_second_one(
    broken: S3Place, fault_proxy: FaultProxyThread, fault: Fault
) -> None:
    fault_proxy.add(fault, *CREATE, times=2)

    async with broken.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink:
        await sink.begin()
        assert len(await broken.unfinished()) == 1
        sink.detach()

    await broken.storage.abort(sink.state)
    assert await broken.unfinished() == []


@pytest.mark.parametrize("request_", [CREATE, PART, COMPLETE, WHOLE], ids=["create", "part", "complete", "whole"])
@pytest.mark.parametrize("fault", [Latency(0.3), LostAnswer(), BlackHole()], ids=["slow", "lost", "silent"])
async def test_cancelled_in_any_request_nothing_stays(
    broken: S3Place, fault_proxy: FaultProxyThread, request_: tuple[str, str], fault: Fault
) -> None:
    data = the_bytes(1000 if request_ == WHOLE else SIZE)
    fault_proxy.add(fault, *request_)

    async with asyncio.TaskGroup() as group:
        work = group.create_task(through_buffers(broken.storage, data))
        await fault_proxy.log.reaches(lambda log: any(entry.fault for entry in log))
        await asyncio.sleep(0.02)
        await cancelled(work)

    await fault_proxy.log.reaches(lambda log: all(entry.ended for entry in log if entry.fault != "BlackHole"))
    assert (await broken.keys(), await broken.unfinished()) == ([], [])


async def test_a_part_that_comes_in_after_the_abort_is_removed_too(
    broken: S3Place, fault_proxy: FaultProxyThread
) -> None:
    """After the first abort the store still shows the upload, as it may with a part on its way; after the next not."""
    listing = b"<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>"
    fault_proxy.add(Status(200, listing, {"Content-Type": "application/xml"}), *PARTS, times=1)

    async with broken.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink:
        await sink.begin()

    assert [entry.method for entry in fault_proxy.log] == ["POST", "DELETE", "GET", "DELETE"]
    assert not sink.left_behind
    assert await broken.unfinished() == []


async def test_an_upload_that_never_goes_away_is_said(broken: S3Place, fault_proxy: FaultProxyThread) -> None:
    async with broken.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink:
        await sink.begin()
        sink.detach()
    fault_proxy.add(Status(204), *ABORT)

    with pytest.raises(StorageUnavailable, match="three times"):
        await broken.storage.abort(sink.state)

    assert len([entry for entry in fault_proxy.log if entry.method == "DELETE"]) == 3


@pytest.mark.parametrize(
    "fault", [s3_error(403, "AccessDenied"), Reset(), BlackHole()], ids=["refused", "unreachable", "silent"]
)
async def test_what_cannot_be_removed_is_left_behind_and_said(
    broken: S3Place, fault_proxy: FaultProxyThread, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_sink, "_ABORT_SECONDS", 1.0)
    fault_proxy.add(fault, *ABORT)

    async with broken.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink:
        await sink.begin()

    assert sink.left_behind
    assert len(await broken.unfinished()) == 1

    fault_proxy.clear()
    await broken.storage.abort(sink.state)
    assert await broken.unfinished() == []


async def test_a_state_from_before_the_announcement_removes_what_the_key_has(broken: S3Place) -> None:
    """The crash came between the store's announcement and the checkpoint."""
    async with broken.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink:
        state = dict(sink.state)
        await sink.begin()
        sink.detach()
    assert (state["upload_id"], len(await broken.unfinished())) == (None, 1)

    with pytest.raises(UploadLost):
        async with broken.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True, resume=state):
            pass

    assert await broken.unfinished() == []


async def test_a_resume_that_cannot_ask_keeps_the_upload(broken: S3Place, fault_proxy: FaultProxyThread) -> None:
    async with broken.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink:
        await sink.begin()
        sink.detach()
    fault_proxy.add(s3_error(500, "InternalError"), "GET")

    with pytest.raises(StorageUnavailable, match="InternalError"):
        async with broken.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True, resume=dict(sink.state)):
            pass

    assert len(await broken.unfinished()) == 1


async def test_the_store_closes_after_the_last_clean_up(
    radosgw: RadosGW, bucket: Bucket, fault_proxy: FaultProxyThread
) -> None:
    """Cancelled twice, the upload's owner goes at once; its removal is seen through."""
    fault_proxy.add(Latency(0.2), *ABORT)

    async with s3_place(radosgw, bucket, endpoint_url=fault_proxy.url) as place, asyncio.TaskGroup() as group:
        work = group.create_task(hold_open(place))
        await fault_proxy.log.reaches(lambda log: any(entry.ended for entry in log))
        await asyncio.sleep(0.01)
        work.cancel()
        await fault_proxy.log.reaches(lambda log: any(entry.method == "DELETE" for entry in log))
        await cancelled(work)
        assert len(await place.unfinished()) == 1

    assert await bucket.uploads() == []


async def hold_open(place: S3Place) -> None:
    async with place.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink:
        await sink.begin()
        await asyncio.Event().wait()
