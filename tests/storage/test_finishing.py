"""Work that is seen through, deadlines that stand still, bodies that are taken back."""

from __future__ import annotations

import asyncio

import pytest

from mediagen.core.errors import StorageUnavailable
from mediagen.storage.finishing import Finishing
from mediagen.storage.patience import TimedBody, patience
from mediagen.storage.revocable import RevocableBody
from mediagen.streams.parts import BufferBody, RangeBody
from tests.contracts.uploads import BytesReader, Readings, cancelled

# -- Finishing


async def test_work_goes_on_when_the_one_who_asked_is_cancelled() -> None:
    finishing, go, done = Finishing(), asyncio.Event(), asyncio.Event()

    async def work() -> str:
        await go.wait()
        done.set()
        return "done"

    async with asyncio.TaskGroup() as group:
        caller = group.create_task(finishing.see_through(work()))
        await asyncio.sleep(0)
        await cancelled(caller)
        assert not done.is_set()
        go.set()
        await finishing.wait()

    assert done.is_set()
    assert await finishing.see_through(work()) == "done"
    await finishing.wait()


async def test_a_failure_goes_to_the_one_who_asked() -> None:
    finishing = Finishing()

    async def fails() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await finishing.see_through(fails())
    await finishing.wait()


async def test_a_failure_that_nobody_waits_for_is_not_a_fault_of_the_loop() -> None:
    finishing, go = Finishing(), asyncio.Event()
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def fails() -> None:
        await go.wait()
        raise LookupError

    async with asyncio.TaskGroup() as group:
        caller = group.create_task(finishing.see_through(fails()))
        await asyncio.sleep(0)
        await cancelled(caller)
        go.set()
        await finishing.wait()

    assert complaints == []


async def test_stop_waits_a_while_and_then_no_longer() -> None:
    finishing = Finishing()
    quick = asyncio.Event()
    ended: list[str] = []

    async def work(name: str, gate: asyncio.Event) -> None:
        try:
            await gate.wait()
            ended.append(name)
        except asyncio.CancelledError:
            ended.append(f"{name} cut")
            raise

    async with asyncio.TaskGroup() as group:
        callers = [
            group.create_task(finishing.see_through(work("quick", quick))),
            group.create_task(finishing.see_through(work("stuck", asyncio.Event()))),
        ]
        await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        quick.set()
        await finishing.stop(0.05)

    assert sorted(ended) == ["quick", "stuck cut"]
    await finishing.stop(1)


# -- patience


async def test_the_deadline_is_for_the_whole_block() -> None:
    with pytest.raises(TimeoutError):
        async with patience(0.02):
            await asyncio.Event().wait()
    async with patience(5):
        await asyncio.sleep(0)


async def test_the_time_of_the_source_is_given_back() -> None:
    reader = BytesReader(b"x" * 100, stall_at=50)
    body = TimedBody(RangeBody(reader, 0, 100, meter=Readings(100).meter))

    async def send() -> bytes:
        async with patience(0.05, body):
            return b"".join([bytes(chunk) async for chunk in body])

    async with asyncio.TaskGroup() as group:
        work = group.create_task(send())
        await reader.stalled.wait()
        await asyncio.sleep(0.15)
        assert not work.done()
        reader.release.set()

    assert work.result() == b"x" * 100
    assert body.waited >= 0.1


async def test_the_time_of_the_store_is_not_given_back() -> None:
    body = TimedBody(RangeBody(BytesReader(b"x" * 100), 0, 100, meter=Readings(100).meter))

    async def send() -> None:
        async with patience(0.02, body):
            assert await anext(aiter(body)) == b"x" * 100
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await send()


def test_a_timed_body_is_a_file_like_the_one_inside() -> None:
    async def check() -> None:
        inner = BufferBody(memoryview(b"0123456789"))
        body = TimedBody(inner)
        assert (len(body), body.seek(3), body.tell(), body.read(4), body.read()) == (10, 3, 3, b"3456", b"789")
        assert inner.tell() == 10

    asyncio.run(check())


# -- bodies that are taken back


async def test_a_revoked_body_gives_nothing_more() -> None:
    body = RevocableBody(BufferBody(memoryview(b"0123456789"), chunk_size=4))
    chunks = aiter(body)
    assert bytes(await anext(chunks)) == b"0123"

    assert not body.revoke()

    with pytest.raises(StorageUnavailable):
        await anext(chunks)
    with pytest.raises(StorageUnavailable):
        await anext(aiter(body))
    assert isinstance(body.failure, StorageUnavailable)


async def test_a_body_that_has_left_is_gone() -> None:
    inner = BufferBody(memoryview(b"0123456789"), chunk_size=4)
    body = RevocableBody(inner)
    assert body.failure is None

    assert b"".join([bytes(chunk) async for chunk in body]) == b"0123456789"
    assert b"".join([bytes(chunk) async for chunk in body]) == b"0123456789"
    assert (len(body), body.crc32, body.seek(2), body.tell(), body.read(3)) == (10, inner.crc32, 2, 2, b"234")

    assert body.revoke()
    assert not RevocableBody(inner).revoke()


async def test_an_empty_body_has_left_from_the_beginning() -> None:
    assert RevocableBody(BufferBody(memoryview(b""))).revoke()
