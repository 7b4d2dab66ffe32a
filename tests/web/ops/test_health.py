"""Health routes."""

from __future__ import annotations

import asyncio
import time

import pytest

from mediagen.core.errors import StorageUnavailable
from mediagen.web.ops import health
from mediagen.web.ops.health import Check, LoopLag
from tests.web.conftest import House


async def test_a_server_that_runs_is_ready(house: House) -> None:
    live, ready, whole = [await house.ask("GET", path) for path in ("/livez", "/readyz", "/healthz")]

    assert (live[0], live[1]) == (200, {"status": "ok"})
    assert (ready[0], ready[1]["status"]) == (200, "ok")
    assert {name: check["ok"] for name, check in ready[1]["checks"].items()} == {
        "database": True,
        "storage": True,
        "tasks": True,
        "running": True,
    }
    assert whole[0] == 200
    assert set(whole[1]["loop_lag"]) == {"last_milliseconds", "max_milliseconds"}
    assert (whole[1]["tasks_live"], whole[1]["feed_readers"]) == (0, 0)


async def test_a_check_that_fails_is_named_and_asked_again_later() -> None:
    answers = iter([StorageUnavailable("the bucket is gone"), None])
    asked = 0

    async def probe() -> None:
        nonlocal asked
        asked += 1
        if (failure := next(answers)) is not None:
            raise failure

    check = Check(probe)

    views = await asyncio.gather(*(check.view() for _ in range(10)))

    assert asked == 1
    assert {(view.ok, view.detail) for view in views} == {(False, "the bucket is gone")}


async def test_a_check_that_hangs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.05)

    assert not (await Check(_hang).view()).ok


async def _hang() -> None:
    await asyncio.Event().wait()


def test_lag_keeps_the_worst_of_the_last_minute() -> None:
    lag = LoopLag(0.1)

    for second, value in ((0.0, 0.5), (10.0, 0.2), (30.0, 0.3), (61.0, 0.1)):
        lag.note(second, value)
    before, last = lag.worst, lag.last
    lag.note(91.0, 0.01)
    after = lag.worst

    assert (before, last, after) == (0.3, 0.1, 0.1)


async def test_lag_is_measured() -> None:
    lag = LoopLag(0.01)

    async with asyncio.TaskGroup() as group:
        measuring = group.create_task(lag.run())
        await asyncio.sleep(0.03)
        time.sleep(0.1)
        await asyncio.sleep(0.03)
        measuring.cancel()

    assert lag.worst > 0.05
