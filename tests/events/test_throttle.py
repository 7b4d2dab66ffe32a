from __future__ import annotations

import asyncio
from itertools import pairwise

from mediagen.events.throttle import Throttle


async def test_the_first_touch_passes_at_once_and_the_last_always() -> None:
    emitted: list[str] = []
    throttle = Throttle(0.03, emitted.append)

    for _ in range(50):
        throttle.touch("a")
    throttle.touch("b")
    assert emitted == ["a", "b"]

    await asyncio.sleep(0.08)
    assert emitted == ["a", "b", "a"]
    throttle.touch("a")  # idle since: at once again
    assert emitted == ["a", "b", "a", "a"]
    throttle.close()


async def test_the_rate_is_kept() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []
    throttle = Throttle(0.02, lambda _key: times.append(loop.time()))

    end = loop.time() + 0.15
    while loop.time() < end:
        throttle.touch("a")
        await asyncio.sleep(0.001)
    throttle.flush("a")

    assert len(times) >= 3
    by_timer = times[:-1]  # the flush at the end may come early
    assert all(later - earlier >= 0.019 for earlier, later in pairwise(by_timer))


async def test_flush_passes_on_what_waits_and_nothing_comes_after() -> None:
    emitted: list[str] = []
    throttle = Throttle(0.02, emitted.append)
    throttle.touch("a")
    throttle.touch("a")

    throttle.flush("a")
    throttle.flush("a")
    await asyncio.sleep(0.05)

    assert emitted == ["a", "a"]


async def test_dropped_and_closed_keys_leave_no_timer() -> None:
    emitted: list[str] = []
    throttle = Throttle(0.01, emitted.append)
    for key in ("a", "a", "b", "b"):
        throttle.touch(key)

    throttle.drop("a")
    throttle.close()
    await asyncio.sleep(0.03)

    assert emitted == ["a", "b"]
