"""A server whose clock is far from the time that was recorded: it says so, deletes nothing, and can be told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mediagen.core.files import File
from mediagen.core.keys import Key, Scope
from mediagen.db.rows import time_of, time_text
from mediagen.web.auth.keyring import Keyring
from mediagen.web.auth.signed_urls import Links
from mediagen.web.http.problems import LinkExpired
from tests.core.clocks import Times
from tests.web.conftest import House, Start

ADMIN = "a-key-of-the-configuration"
OLD = "2020-01-01T00:00:00.000000+00:00"


def set_known(folder: Path, known: datetime | None) -> None:
    """What an earlier start recorded; None: it was one that records nothing."""
    with sqlite3.connect(folder / "data" / "mediagen.db") as database:
        if known is None:
            database.execute("DELETE FROM meta WHERE key = 'known_time'")
        else:
            database.execute("UPDATE meta SET value = ? WHERE key = 'known_time'", (time_text(known),))
    database.close()


def recorded(folder: Path) -> datetime:
    with closing(sqlite3.connect(folder / "data" / "mediagen.db")) as database:
        ((known,),) = database.execute("SELECT value FROM meta WHERE key = 'known_time'").fetchall()
    return time_of(known)


async def ended_long_ago(house: House, folder: Path) -> str:
    """A task that the next start would purge."""
    task_id = await house.submit()
    (await house.pipeline.stage(task_id)).succeed()
    await house.ended(task_id)
    await house.stop()
    with sqlite3.connect(folder / "data" / "mediagen.db") as database:
        database.execute("UPDATE tasks SET created_at = ?, ended_at = ?", (OLD, OLD))
    database.close()
    return task_id


async def clock_check(house: House) -> str | None:
    status, readiness, _ = await house.ask("GET", "/readyz")
    assert (status, readiness["status"]) == (200, "ok")
    detail: str | None = readiness["checks"].get("clock", {}).get("detail")
    return detail


@pytest.mark.parametrize("days", [400, -400, None])
async def test_a_start_in_the_wrong_year_purges_nothing(start: Start, tmp_path: Path, days: int | None) -> None:
    task_id = await ended_long_ago(await start(), tmp_path)
    set_known(tmp_path, None if days is None else datetime.now(UTC) - timedelta(days=days))

    house = await start(tasks={"history_days": 1}, auth={"admin_key": ADMIN})

    assert (await house.ask("GET", f"/v1/tasks/{task_id}"))[0] == 200
    said = await clock_check(house)
    assert said is not None
    assert ("behind" if days == -400 else "ahead of") in said
    assert "mediagen clock confirm" in said

    status, clock, _ = await house.ask("POST", "/v1/clock/confirm")
    assert (status, clock["object"]) == (200, "clock")
    assert await clock_check(house) is None
    await house.stop()
    house = await start(tasks={"history_days": 1})
    assert await clock_check(house) is None


async def test_a_usual_restart_is_not_in_doubt(start: Start, tmp_path: Path) -> None:
    house = await start()
    assert await clock_check(house) is None
    await house.stop()
    set_known(tmp_path, datetime.now(UTC) - timedelta(hours=20))

    assert await clock_check(await start()) is None
    async with asyncio.timeout(20):  # recorded a moment after the start
        while datetime.now(UTC) - recorded(tmp_path) > timedelta(hours=1):
            await asyncio.sleep(0.02)


async def test_confirming_needs_an_admin(start: Start) -> None:
    house = await start(auth={"required": True, "admin_key": ADMIN})
    admin = {"Authorization": f"Bearer {ADMIN}"}
    _, key, _ = await house.ask("POST", "/v1/keys", json={"name": "anna"}, headers=admin)

    for headers, status in (({}, 401), ({"Authorization": f"Bearer {key['key']}"}, 403), (admin, 200)):
        assert (await house.ask("POST", "/v1/clock/confirm", headers=headers))[0] == status


class Rows:
    """Keys in memory."""

    async def all(self) -> list[Key]:
        return []

    async def insert(self, key: Key) -> None:
        """Nothing outlives the test."""

    async def replace(self, old: Key, new: Key) -> None:
        """Nothing outlives the test."""

    async def update(self, key: Key) -> None:
        """Nothing outlives the test."""

    async def used(self, moments: Mapping[str, datetime]) -> None:
        """Nothing outlives the test."""


async def test_an_expired_key_stays_expired_when_the_clock_goes_back() -> None:
    times = Times()
    keyring = Keyring(Rows(), now=times.clock().latest)
    key, text = await keyring.create("anna", owner=None, scopes={Scope.READ}, lifetime=timedelta(hours=1))
    assert keyring.caller(text) is not None
    times.pass_by(hours=2)
    assert keyring.caller(text) is None

    times.set(days=-3)

    assert keyring.caller(text) is None
    assert not keyring.usable(key.id)
    again = Keyring(Rows(), now=times.clock(known=times.wall + timedelta(days=3)).latest)
    _, other = await again.create("anna", owner=None, scopes={Scope.READ}, lifetime=timedelta(hours=1))
    assert again.caller(other) is not None, "a new key works for as long as was asked"
    times.pass_by(hours=1)
    assert again.caller(other) is None


async def test_a_link_that_has_ended_stays_so_when_the_clock_goes_back(house_file: File) -> None:
    times = Times()
    links = Links(bytes(32), ttl_seconds=60, base_path="", now=times.clock().latest)
    url, _ = links.of(house_file, "")
    words = dict(word.split("=") for word in url.partition("?")[2].split("&"))
    about = {"expires": words["expires"], "download": "", "signature": words["signature"]}
    assert links.check(house_file.id, **about) > 50
    times.pass_by(minutes=2)

    times.set(days=-1)

    with pytest.raises(LinkExpired):
        links.check(house_file.id, **about)
