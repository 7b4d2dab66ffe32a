"""An S3 store that fails: a fault proxy in front of radosgw breaks chosen requests of real uploads."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Final

import pytest

from mediagen.core.errors import (
    StorageUnavailable,
)
from mediagen.streams.base import MIB
from mediagen.streams.parts import BufferBody, RangeBody
from tests.contracts.uploads import (
    ABOUT,
    KEY,
    BytesReader,
    Readings,
    put_parts,
    the_bytes,
)
from tests.infra.s3 import Bucket
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.faults import (
    BlackHole,
    CutRequest,
    Fault,
    Latency,
    LostAnswer,
    Reset,
    SlowRequest,
    StaleKeepAlive,
    Status,
    error_in_200,
    s3_error,
    slow_down,
)
from tests.infra.servers.radosgw import RadosGW
from tests.storage.faulty import (
    COMPLETE,
    CREATE,
    HEAD,
    PART,
    PARTS,
    SIZE,
    WHOLE,
    cleared,
    impatient,
    struck,
    through_buffers,
    through_ranges,
)
from tests.storage.places import S3Place

# -- what a second try can help

ONCE: Final[dict[str, Fault]] = {
    "503": slow_down(),
    "429": s3_error(429, "TooManyRequests"),
    "500": s3_error(500, "InternalError"),
    "502 html": Status(502, b"<html>Bad Gateway</html>"),
    "409": s3_error(409, "OperationAborted"),
    "request timeout": s3_error(400, "RequestTimeout"),
    "error in 200": error_in_200(),
    "reset": Reset(),
    "answer lost by reset": LostAnswer(),
    "answer lost by end": LostAnswer(reset=False),
    "connection dies idle": StaleKeepAlive(),
    "connection dies in use": StaleKeepAlive(on_reuse=True),
}
ON_BODIES: Final[dict[str, Fault]] = {
    "cut by reset": CutRequest(after=MIB),
    "cut by end": CutRequest(after=MIB, reset=False),
}


@pytest.mark.parametrize("request_", [CREATE, COMPLETE], ids=["create", "complete"])
async def test_a_request_that_fails_once(
    broken: S3Place, fault_proxy: FaultProxyThread, request_: tuple[str, str]
) -> None:
    data = the_bytes(SIZE)
    for name, fault in ONCE.items():
        fault_proxy.add(fault, *request_, times=1)

        await through_buffers(broken.storage, data)

        assert (name, struck(fault_proxy)) == (name, 1)
        assert await broken.bucket.read(f"mediagen/{KEY}") == data, name
        assert (name, await broken.keys(), await broken.unfinished()) == (name, [KEY], [])
        await cleared(broken, fault_proxy)


async def test_a_part_that_fails_once_is_sent_again_and_counted_once(
    broken: S3Place, fault_proxy: FaultProxyThread
) -> None:
    data = the_bytes(SIZE)
    for name, fault in {**ONCE, **ON_BODIES}.items():
        readings = Readings(SIZE)
        fault_proxy.add(fault, *PART, times=1)

        await through_ranges(broken.storage, data, readings=readings)

        assert (name, struck(fault_proxy)) == (name, 1)
        assert await broken.bucket.read(f"mediagen/{KEY}") == data, name
        assert max(reading.downloaded for reading in readings.seen) == SIZE, name
        assert (readings.seen[-1].downloaded, readings.seen[-1].uploaded) == (SIZE, SIZE), name
        assert (name, await broken.keys(), await broken.unfinished()) == (name, [KEY], [])
        await cleared(broken, fault_proxy)


async def test_a_whole_object_that_fails_once_is_sent_again(broken: S3Place, fault_proxy: FaultProxyThread) -> None:
    data = the_bytes(2 * MIB + 1)
    for name, fault in {**ONCE, **ON_BODIES}.items():
        fault_proxy.add(fault, *WHOLE, times=1)

        await through_buffers(broken.storage, data)

        assert (name, struck(fault_proxy)) == (name, 1)
        assert await broken.bucket.read(f"mediagen/{KEY}") == data, name
        assert (name, await broken.keys(), await broken.unfinished()) == (name, [KEY], [])
        await cleared(broken, fault_proxy)


async def test_a_question_that_fails_once_is_asked_again(broken: S3Place, fault_proxy: FaultProxyThread) -> None:
    data = the_bytes(SIZE)
    async with broken.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink:
        await sink.begin()
        await put_parts(sink, data, [2])
        sink.detach()

    for name in ("503", "500", "reset", "answer lost by reset"):
        fault_proxy.add(ONCE[name], *PARTS, times=1)
        fault_proxy.add(ONCE[name], *HEAD, times=1)
        async with broken.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True, resume=dict(sink.state)) as again:
            assert set(again.stored) == {2}, name
            assert await broken.storage.head(KEY) is None, name
            again.detach()
        assert (name, struck(fault_proxy)) == (name, 2)
        fault_proxy.clear()


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_waited_for(broken: S3Place, fault_proxy: FaultProxyThread, as_date: bool) -> None:
    loop = asyncio.get_running_loop()

    async with broken.storage.open_sink(KEY, **ABOUT, size=None) as sink:
        await sink.begin()
        # a date has whole seconds: two seconds from now is at least one
        after = formatdate(time.time() + 2, usegmt=True) if as_date else 1
        fault_proxy.add(slow_down(retry_after=after), *PART, times=1)
        started = loop.time()
        await sink.put_part(1, BufferBody(memoryview(b"x")))

    assert loop.time() - started >= 0.99


# -- when all goes wrong, the outcome is still known and nothing stays


@pytest.mark.parametrize("whole", [True, False])
async def test_a_deed_whose_every_answer_is_lost_is_found_done(
    broken: S3Place, fault_proxy: FaultProxyThread, whole: bool
) -> None:
    data = the_bytes(1000 if whole else SIZE)
    fault_proxy.add(LostAnswer(), *(WHOLE if whole else COMPLETE), times=3)

    await through_buffers(broken.storage, data)

    assert struck(fault_proxy) == 3
    assert await broken.bucket.read(f"mediagen/{KEY}") == data
    assert (await broken.keys(), await broken.unfinished()) == ([KEY], [])


@pytest.mark.parametrize("whole", [True, False])
async def test_a_deed_that_cannot_be_looked_at_is_undone(
    broken: S3Place, fault_proxy: FaultProxyThread, whole: bool
) -> None:
    """No answer, and no answer to the question either: a failure, after which the object must not be there."""
    data = the_bytes(1000 if whole else SIZE)
    fault_proxy.add(LostAnswer(), *(WHOLE if whole else COMPLETE), times=3)
    fault_proxy.add(slow_down(), *HEAD, times=3)

    with pytest.raises(StorageUnavailable):
        await through_buffers(broken.storage, data)

    assert struck(fault_proxy) == 6
    assert (await broken.keys(), await broken.unfinished()) == ([], [])


ALWAYS: Final[dict[str, Fault]] = {
    "error in 200": error_in_200(),
    "503": slow_down(),
    "500": s3_error(500, "InternalError"),
    "reset": Reset(),
    "400": s3_error(400, "InvalidPart"),
}


@pytest.mark.parametrize("request_", [CREATE, PART, COMPLETE, WHOLE], ids=["create", "part", "complete", "whole"])
async def test_a_request_that_always_fails_leaves_nothing(
    broken: S3Place, fault_proxy: FaultProxyThread, request_: tuple[str, str]
) -> None:
    data = the_bytes(1000 if request_ == WHOLE else SIZE)
    for name, fault in ALWAYS.items():
        fault_proxy.add(fault, *request_)

        with pytest.raises(StorageUnavailable) as caught:
            await through_buffers(broken.storage, data)

        assert caught.value.retryable is (name != "400"), name
        # under a connection that was used before, the HTTP library tries a PUT once more by itself
        tries = range(3, 7) if name == "reset" else [1 if name == "400" else 3]
        assert struck(fault_proxy) in tries, name
        assert (name, await broken.keys(), await broken.unfinished()) == (name, [], [])
        await cleared(broken, fault_proxy)


@pytest.mark.parametrize(
    ("request_", "reads"),
    [(CREATE, True), (PART, True), (PART, False), (COMPLETE, True), (WHOLE, True), (WHOLE, False)],
    ids=["create", "part", "part unread", "complete", "whole", "whole unread"],
)
async def test_a_black_hole_is_left_after_our_own_deadline(
    radosgw: RadosGW, bucket: Bucket, fault_proxy: FaultProxyThread, request_: tuple[str, str], reads: bool
) -> None:
    data = the_bytes(1000 if request_ == WHOLE else SIZE)
    fault_proxy.add(BlackHole(reads=reads), *request_, times=2)

    async with impatient(radosgw, bucket, fault_proxy) as place:
        with pytest.raises(StorageUnavailable, match=r"did not answer|no connection"):
            await through_buffers(place.storage, data)

        assert struck(fault_proxy) == 2
        assert (await place.keys(), await place.unfinished()) == ([], [])


@pytest.mark.parametrize("request_", [CREATE, PART, COMPLETE, WHOLE], ids=["create", "part", "complete", "whole"])
async def test_a_black_hole_that_ends_is_survived(
    radosgw: RadosGW, bucket: Bucket, fault_proxy: FaultProxyThread, request_: tuple[str, str]
) -> None:
    data = the_bytes(1000 if request_ == WHOLE else SIZE)
    fault_proxy.add(BlackHole(), *request_, times=1)

    async with impatient(radosgw, bucket, fault_proxy) as place:
        await (through_buffers if request_ == WHOLE else through_ranges)(place.storage, data)

        assert await bucket.read(f"mediagen/{KEY}") == data
        assert (await place.keys(), await place.unfinished()) == ([KEY], [])


async def test_a_slow_store_is_waited_for(broken: S3Place, fault_proxy: FaultProxyThread) -> None:
    data = the_bytes(SIZE)
    fault_proxy.add(SlowRequest(rate=12 * MIB), *PART)
    fault_proxy.add(Latency(0.2))

    await through_ranges(broken.storage, data)

    assert await broken.bucket.read(f"mediagen/{KEY}") == data


async def test_a_distant_store_gets_more_parts_at_once(broken: S3Place, fault_proxy: FaultProxyThread) -> None:
    fault_proxy.add(Latency(0.06), *CREATE)

    for parallel, parts in [(True, 16), (False, 4)]:
        async with broken.storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=parallel) as sink:
            assert sink.parts_in_flight == 4
            await sink.begin()
            assert sink.parts_in_flight == parts


# -- too much at once


async def test_slow_down_halves_what_is_on_its_way(broken: S3Place, fault_proxy: FaultProxyThread) -> None:
    """Eight parts at once are too many; then four, and with every round of successes one more."""
    data = the_bytes(16_000)
    limit = broken.storage.caller._slots
    most: list[int] = []
    fault_proxy.add(slow_down(), "PUT", r"partNumber=[1-8]\b", times=1)

    async with broken.storage.open_sink(KEY, **ABOUT, size=None) as sink:
        await sink.begin()
        before = limit.limit

        async def part(number: int) -> None:
            class Counting(BytesReader):
                async def read_into(self, buffer: memoryview, /) -> int:
                    most.append(limit.in_flight)
                    return await super().read_into(buffer)

            await sink.put_part(number, RangeBody(Counting(data), 0, 16_000, meter=Readings(None).meter))

        fault_proxy.add(Latency(0.1), "PUT")
        await asyncio.gather(*(part(number) for number in range(1, 9)))
        halved = limit.limit
        most.clear()
        await asyncio.gather(*(part(number) for number in range(9, 17)))

    assert before == 256
    assert halved < 8
    assert max(most) <= limit.limit
    assert halved < limit.limit < 16
