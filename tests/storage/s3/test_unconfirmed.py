"""What the store may still carry out, and what it surely will not."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Final

import pytest

from mediagen.core.errors import MediagenError
from mediagen.storage.s3.unconfirmed import REMEMBERED_SECONDS, UnconfirmedRequests
from mediagen.streams.parts import BufferBody
from tests.contracts.uploads import ABOUT, KEY, cancelled, the_bytes
from tests.infra.s3 import Bucket
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.faults import BlackHole, Fault, LostAnswer, error_in_200, s3_error, slow_down
from tests.infra.servers.radosgw import RadosGW
from tests.storage.faulty import COMPLETE, CREATE, PART, SIZE, WHOLE, cleared, impatient, through_buffers
from tests.storage.places import S3Place, s3_place


@pytest.mark.parametrize("size", [1000, SIZE])
async def test_after_plain_answers_there_is_no_doubt(s3_store: S3Place, size: int) -> None:
    await through_buffers(s3_store.storage, the_bytes(size))

    assert not s3_store.storage.in_doubt(KEY)


ANSWERS: Final[dict[str, tuple[Fault, bool]]] = {
    "403": (s3_error(403, "AccessDenied"), False),
    "400": (s3_error(400, "InvalidArgument"), False),
    "slow down": (slow_down(), False),
    "500": (s3_error(500, "InternalError"), True),
    "504": (s3_error(504, "GatewayTimeout"), True),
    "error in 200": (error_in_200(), True),
    "lost": (LostAnswer(), True),
    "silent": (BlackHole(), True),
}


@pytest.mark.parametrize("said", ANSWERS)
async def test_what_an_answer_says_about_the_deed(
    radosgw: RadosGW, bucket: Bucket, fault_proxy: FaultProxyThread, said: str
) -> None:
    fault, doubt = ANSWERS[said]
    fault_proxy.add(fault, *WHOLE)
    async with impatient(radosgw, bucket, fault_proxy) as place:
        with pytest.raises(MediagenError) if said != "lost" else nullcontext():
            await through_buffers(place.storage, the_bytes(1000))

        assert place.storage.in_doubt(KEY) is doubt
        await cleared(place, fault_proxy)


@pytest.mark.parametrize("request_", [CREATE, PART, COMPLETE], ids=["create", "part", "complete"])
async def test_a_second_try_leaves_the_first_in_doubt(
    broken: S3Place, fault_proxy: FaultProxyThread, request_: tuple[str, str]
) -> None:
    fault_proxy.add(LostAnswer(), *request_, times=1)

    await through_buffers(broken.storage, the_bytes(SIZE))

    assert broken.storage.in_doubt(KEY)


async def test_a_store_that_was_never_reached_does_nothing_late(radosgw: RadosGW, bucket: Bucket) -> None:
    async with s3_place(radosgw, bucket, endpoint_url="http://127.0.0.1:1", attempts=1) as place:
        with pytest.raises(MediagenError):
            await through_buffers(place.storage, the_bytes(1000))

        assert not place.storage.in_doubt(KEY)


async def test_a_request_is_in_doubt_from_its_beginning_and_after_its_cancel(
    broken: S3Place, fault_proxy: FaultProxyThread
) -> None:
    """Whoever looks while a cancelled upload still waits for its answer must see it."""
    fault_proxy.add(BlackHole(), *WHOLE)
    async with asyncio.TaskGroup() as group:
        work = group.create_task(through_buffers(broken.storage, the_bytes(1000)))
        await fault_proxy.log.reaches(lambda log: any(entry.fault for entry in log))
        assert broken.storage.in_doubt(KEY)
        await cancelled(work)

    assert broken.storage.in_doubt(KEY)


async def test_of_a_part_that_was_cut_short_nothing_is_kept(broken: S3Place, fault_proxy: FaultProxyThread) -> None:
    """The usual cancel, in the middle of a part, owes nothing."""
    fault_proxy.add(BlackHole(reads=False), *PART)
    data = the_bytes(32 << 20)  # more than the buffers on the way take
    async with broken.storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
        await sink.begin()
        async with asyncio.TaskGroup() as group:
            work = group.create_task(sink.put_part(1, BufferBody(memoryview(data))))
            await fault_proxy.log.reaches(lambda log: any(entry.fault for entry in log))
            await cancelled(work)

    assert not broken.storage.in_doubt(KEY)


def test_doubt_ends_with_time_and_takes_no_room() -> None:
    now = 0.0
    outstanding = UnconfirmedRequests(lambda: now)
    for number in range(100):
        outstanding.unheard(f"key-{number}")
    assert "key-7" in outstanding

    now = REMEMBERED_SECONDS + 1
    assert "key-7" not in outstanding
    outstanding.unheard("another")
    assert len(outstanding._unheard) == 1


def test_a_call_that_runs_is_in_doubt_until_the_last_of_its_kind_ends() -> None:
    outstanding = UnconfirmedRequests()
    with outstanding.during("key"):
        with outstanding.during("key"), outstanding.during(None):
            assert "key" in outstanding
        assert "key" in outstanding
    assert "key" not in outstanding
