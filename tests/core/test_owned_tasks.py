"""Work that is seen through, deadlines that stand still, bodies that are taken back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from mediagen.core.errors import StorageUnavailable
from mediagen.core.owned_tasks import Finishing
from mediagen.storage.s3.deadline import store_deadline
from mediagen.storage.s3.revocable import RevocableBody
from mediagen.streams.base import MIB
from mediagen.streams.parts import BufferBody
from tests.contracts.uploads import cancelled
from tests.streams.targets import THREADS, Gathering

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


# -- store_deadline


async def test_the_deadline_is_for_the_whole_block() -> None:
    with pytest.raises(TimeoutError):
        async with store_deadline(0.02):
            await asyncio.Event().wait()
    async with store_deadline(5):
        await asyncio.sleep(0)


class Waited:
    """Has waited for so many seconds."""

    waited = 0.0


async def test_the_time_of_the_source_is_given_back() -> None:
    body, go_on = Waited(), asyncio.Event()

    async def send() -> None:
        async with store_deadline(0.05, body):
            await go_on.wait()

    async with asyncio.TaskGroup() as group:
        work = group.create_task(send())
        body.waited = 10.0
        await asyncio.sleep(0.15)
        assert not work.done()
        go_on.set()


async def test_the_time_of_the_store_is_not_given_back() -> None:
    body = Waited()
    body.waited = 0.01

    with pytest.raises(TimeoutError):
        async with store_deadline(0.02, body):
            await asyncio.Event().wait()


# -- bodies that are taken back


async def test_a_revoked_body_gives_nothing_more() -> None:
    body = RevocableBody(BufferBody(memoryview(b"0123456789"), chunk_size=4))
    target = Gathering()

    class Revoking(Gathering):
        async def write(self, view: memoryview, /) -> None:
            await super().write(view)
            assert not body.revoke(), "six bytes have not been given yet"

    first = Revoking()
    with pytest.raises(StorageUnavailable):
        await body.write_to(first)
    with pytest.raises(StorageUnavailable):
        await body.write_to(target)

    assert (first.content, target.content) == (b"0123", b"")


async def test_a_revoked_body_gives_nothing_more_to_a_thread() -> None:
    gate = threading.Event()
    body = RevocableBody(BufferBody(memoryview(bytes(MIB)), chunk_size=100_000, threads=THREADS))
    target = Gathering(gate=gate)

    async with asyncio.TaskGroup() as group:
        work = group.create_task(refused(body.write_to(target)))
        await asyncio.to_thread(target.waiting.wait, 20)
        assert not body.revoke()
        gate.set()
        await work

    assert len(target.content) == 200_000, "one piece by the loop, and the one that was on its way"


async def refused(work: Coroutine[Any, Any, None]) -> None:
    with pytest.raises(StorageUnavailable):
        await work


async def test_a_body_has_left_when_its_target_has_all_of_it() -> None:
    """Until then somebody still looks into the buffer."""
    inner = BufferBody(memoryview(b"0123456789"), chunk_size=4)
    body = RevocableBody(inner)

    class Looking(Gathering):
        async def write(self, view: memoryview, /) -> None:
            assert body.left > 0
            await super().write(view)

    for _ in range(2):
        target = Looking()
        await body.write_to(target)
        assert target.content == b"0123456789"
    assert (len(body), body.crc32, body.read_ahead(2, 5)) == (10, inner.crc32, b"234")

    assert body.revoke()
    assert not RevocableBody(inner).revoke()


async def test_an_empty_body_has_left_from_the_beginning() -> None:
    assert RevocableBody(BufferBody(memoryview(b""))).revoke()
