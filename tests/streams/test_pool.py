from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagen.core.errors import Unavailable
from mediagen.streams.base import MIB
from mediagen.streams.pool import BufferAllocator, BufferPool


@dataclass
class Borrower:
    """Takes a buffer, keeps it for some turns of the loop, gives it back; may be cancelled at any turn."""

    size: int
    turns: int
    starts: int
    cancelled: int | None


BORROWERS = st.lists(
    st.builds(
        Borrower,
        size=st.integers(1, 12),
        turns=st.integers(0, 4),
        starts=st.integers(0, 6),
        cancelled=st.none() | st.integers(0, 10),
    ),
    max_size=12,
)


@settings(max_examples=100)
@given(BORROWERS, st.integers(8, 20))
async def test_the_budget_holds_in_any_crowd_and_everybody_is_served(crowd: list[Borrower], budget: int) -> None:
    pool = BufferPool(budget)
    out: list[int] = []
    served = 0

    async def borrow(who: Borrower) -> None:
        nonlocal served
        for _ in range(who.starts):
            await asyncio.sleep(0)
        async with pool.lend(who.size) as buffer:
            assert len(buffer) == who.size
            out.append(len(buffer))
            try:
                assert sum(out) <= pool.lent
                assert pool.lent <= budget or (len(out) == 1 and pool.lent == who.size)
                for _ in range(who.turns):
                    await asyncio.sleep(0)
            finally:
                out.remove(len(buffer))
        served += 1

    async def cancel(task: asyncio.Task[None], turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        tasks = [group.create_task(borrow(who)) for who in crowd]
        for task, who in zip(tasks, crowd, strict=True):
            if who.cancelled is not None:
                group.create_task(cancel(task, who.cancelled))

    assert served == sum(not task.cancelled() for task in tasks)
    assert served >= sum(who.cancelled is None for who in crowd)
    assert (pool.lent, pool._budget.kept, pool._budget.free, pool.waiting) == (0, 0, [], 0)


async def test_waiters_are_served_in_order_even_when_a_later_one_would_fit() -> None:
    pool, order = BufferPool(10), []
    first = await pool.acquire(8)

    async def borrow(name: str, size: int) -> None:
        async with pool.lend(size):
            order.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name, size in (("large", 9), ("small", 1), ("tiny", 1)):
            group.create_task(borrow(name, size))
        await asyncio.sleep(0)
        assert order == []  # one would fit, but it is not its turn
        pool.release(first)

    assert order == ["large", "small", "tiny"]


async def test_a_waiter_that_gives_up_lets_the_next_one_in() -> None:
    pool = BufferPool(10)
    held = await pool.acquire(6)
    async with asyncio.TaskGroup() as group:
        large = group.create_task(pool.acquire(9))
        small = group.create_task(pool.acquire(4))
        await asyncio.sleep(0)

        large.cancel()
        async with asyncio.timeout(1):
            other = await small
    pool.release(held)
    pool.release(other)

    assert pool.lent == 0


async def test_a_waiter_cancelled_in_the_moment_of_its_turn_loses_nothing() -> None:
    pool = BufferPool(10)
    held = await pool.acquire(10)
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(pool.acquire(10))
        await asyncio.sleep(0)
        pool.release(held)  # its turn has come
        waiter.cancel()  # and it goes

    assert pool.lent == 0
    async with asyncio.timeout(1):
        pool.release(await pool.acquire(10))


async def test_a_buffer_larger_than_the_budget_is_lent_alone() -> None:
    pool = BufferPool(10)

    buffer = await pool.acquire(25)
    async with asyncio.TaskGroup() as group:
        other = group.create_task(pool.acquire(1))
        await asyncio.sleep(0)
        assert not other.done()
        pool.release(buffer)
    pool.release(other.result())

    assert pool.lent == 0


async def test_large_buffers_are_used_again_within_the_budget_and_given_up_when_idle() -> None:
    pool = BufferPool(8 * MIB)
    first, second = await pool.acquire(4 * MIB), await pool.acquire(4 * MIB)

    pool.release(first)
    again = await pool.acquire(4 * MIB)
    pool.release(again)
    other = await pool.acquire(2 * MIB)  # no room for this one and the idle one

    assert again is first
    assert pool._budget.kept == 0
    pool.release(second)
    pool.release(other)
    assert (pool._budget.kept, pool._budget.free) == (0, [])


async def test_the_block_gives_its_buffer_back_when_it_fails() -> None:
    pool = BufferPool(10)

    with pytest.raises(ZeroDivisionError):
        async with pool.lend(10):
            raise ZeroDivisionError

    assert pool.lent == 0


async def test_a_long_day_of_borrowing_ends_where_it_began() -> None:
    dice, pool, out = random.Random(3), BufferPool(4 * MIB), []

    async def transfer() -> None:
        for _ in range(30):
            async with pool.lend(dice.choice([1, 4096, MIB, 2 * MIB])) as buffer:
                out.append(len(buffer))
                assert sum(out) + pool._budget.kept <= pool.budget
                if dice.random() < 0.5:
                    await asyncio.sleep(0)
                out.remove(len(buffer))

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(transfer())

    assert (pool.lent, pool._budget.kept) == (0, 0)


async def test_tasks_leave_the_reserved_share_to_requests() -> None:
    pool = BufferPool(10, reserved=4)
    first = await pool.acquire(6)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(pool.acquire(1))
        await asyncio.sleep(0)
        assert not task.done()

        for_request = await pool.requests.acquire(4)
        assert pool.lent == 10
        pool.release(first)
        pool.release(await task)
    pool.requests.release(for_request)

    assert pool.lent == 0


async def test_a_share_that_is_smaller_than_one_buffer_stops_no_task() -> None:
    pool = BufferPool(8, reserved=4)

    async with asyncio.timeout(1):
        pool.release(await pool.acquire(8))


async def test_requests_are_served_before_tasks_that_came_earlier() -> None:
    pool, order = BufferPool(10), []
    held = await pool.acquire(10)

    async def borrow(name: str, lender: BufferAllocator) -> None:
        buffer = await lender.acquire(10)
        order.append(name)
        lender.release(buffer)

    async with asyncio.TaskGroup() as group:
        group.create_task(borrow("task", pool))
        group.create_task(borrow("request", pool.requests))
        await asyncio.sleep(0)
        assert pool.waiting == 2
        pool.release(held)

    assert order == ["request", "task"]
    assert (pool.lent, pool.waiting) == (0, 0)


async def test_a_request_that_waits_too_long_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediagen.streams.pool._REQUEST_SECONDS", 0.01)
    pool = BufferPool(10)
    held = await pool.acquire(10)

    with pytest.raises(Unavailable) as refused:
        await pool.requests.acquire(1)
    pool.release(held)

    assert refused.value.retry_after is not None
    assert (pool.lent, pool.waiting) == (0, 0)


@pytest.mark.parametrize("of_requests", [False, True])
async def test_a_buffer_is_exchanged_where_there_is_room(of_requests: bool) -> None:
    pool = BufferPool(10)
    lender: BufferAllocator = pool.requests if of_requests else pool
    buffer: bytearray | None = await lender.acquire(4)
    assert buffer is not None
    held = await pool.acquire(2)

    assert lender.exchange(buffer, 9) is None
    assert pool.lent == 6
    larger = lender.exchange(buffer, 8)
    assert larger is not None
    assert (len(larger), pool.lent) == (8, 10)
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(pool.acquire(9))
        await asyncio.sleep(0)
        smaller = lender.exchange(larger, 1)
        assert smaller is not None
        assert not waiter.done()
        before_the_waiter = lender.exchange(smaller, 3)
        assert (before_the_waiter is None) is not of_requests
        pool.release(held)
        lender.release(before_the_waiter or smaller)
    pool.release(waiter.result())

    assert pool.lent == 0
