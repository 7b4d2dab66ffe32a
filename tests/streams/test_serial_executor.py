from __future__ import annotations

import asyncio
import threading

import pytest

from mediagen.streams.serial_executor import SerialExecutor
from tests.streams.targets import THREADS


async def test_it_gives_what_the_call_gives_and_raises_what_it_raises() -> None:
    executor = SerialExecutor(THREADS)

    assert await executor.run(max, 3, 4) == 4
    with pytest.raises(ZeroDivisionError):
        await executor.run(divmod, 1, 0)
    await executor.ended()


async def test_a_cancelled_caller_stays_until_the_call_is_over() -> None:
    executor, began, go_on = SerialExecutor(THREADS), threading.Event(), threading.Event()

    def call() -> None:
        began.set()
        assert go_on.wait(20)

    async with asyncio.TaskGroup() as group:
        work = group.create_task(executor.run(call))
        await asyncio.to_thread(began.wait, 20)
        for _ in range(3):  # however often
            work.cancel()
            await asyncio.sleep(0)
        other = group.create_task(executor.ended())
        await asyncio.sleep(0.01)
        assert not work.done()
        assert not other.done()
        go_on.set()

    assert work.cancelled()
    assert other.done()
