"""Paid work while the database is held or the disk is full: it waits, nothing fails, and nothing is paid twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e import leavings
from tests.e2e.api import Api
from tests.e2e.crashes.test_kill_phases import rows_withheld
from tests.e2e.crashes.test_paid_kills import check_what_is_there, client, ended, verdicts
from tests.e2e.test_failures import small_disk
from tests.e2e.waiting import becomes, logged
from tests.infra.servers.mediagen import Server
from tests.infra.servers.vendor import VendorServer
from tests.infra.servers.vendors import Shop

__all__ = ["small_disk"]

pytestmark = pytest.mark.e2e

HELD_SECONDS = 10.0
"""Longer than a write waits for another process that holds the database, and than any pause between two tries."""
DONE = ("completed", None)


@pytest.fixture
def api() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.fixture
def shop(api: VendorServer) -> Shop:
    return Shop(api)


async def test_the_database_is_held_by_another(tmp_path: Path, api: VendorServer, shop: Shop) -> None:
    """Films and pictures whose calls are answered meanwhile."""
    films = {"submitted": "openai", "also-submitted": "minimax", "another": "replicate"}
    shop.delay = lambda: 0.7
    async with Server(tmp_path, {"providers": shop.settings()}) as server, Api(server.url) as ours:
        async with client(ours) as asking:
            for name, vendor in films.items():
                await asking.film(name, f"film-{vendor}")
            asking.pictures("late-pictures")
            names = [*films, "late-pictures"]
            await becomes(lambda: all(shop.reached(name, "submit") for name in names))
            with rows_withheld(server):
                await asyncio.sleep(HELD_SECONDS)
                assert logged(server, "task_not_saved")
            tasks = await ended(ours)

        assert verdicts(tasks) == dict.fromkeys(names, DONE)
        assert {name: shop.submits(name) for name in tasks} == dict.fromkeys(tasks, 1)
        await check_what_is_there(server, tasks)


@pytest.mark.parametrize(("whose", "says"), [("everything", "task_not_saved"), ("media", "upload_waits_for_room")])
async def test_the_disk_is_full(
    tmp_path: Path, api: VendorServer, shop: Shop, small_disk: Path, whose: str, says: str
) -> None:
    """A film and pictures that come while there is no room: for their rows, or for their bytes."""
    data_dir = tmp_path / "data"
    if whose == "everything":
        data_dir.symlink_to(small_disk)
    else:
        data_dir.mkdir()
        (data_dir / "media").symlink_to(small_disk)
    shop.delay = lambda: 0.5
    settings = {"providers": shop.settings(), "storage": {"reserve_bytes": 0}}
    async with Server(tmp_path, settings) as server, Api(server.url) as ours:
        async with client(ours) as asking:
            await asking.film("a-film", "film-openai")
            asking.pictures("some-pictures")
            asking.pictures("one-picture", count=1)
            await becomes(lambda: shop.reached("a-film", "submit") and shop.reached("one-picture", "submit"))
            filler = small_disk / "filler"
            _fill(filler)
            await becomes(lambda: len({record["task_id"] for record in logged(server, says)}) == 3)
            await asyncio.sleep(HELD_SECONDS)
            filler.unlink()
            tasks = await ended(ours)

        assert verdicts(tasks) == dict.fromkeys(["a-film", "some-pictures", "one-picture"], DONE)
        assert {name: shop.submits(name) for name in tasks} == dict.fromkeys(tasks, 1)
        await check_what_is_there(server, tasks)
        leavings.no_child(server)


def _fill(filler: Path) -> None:
    """Take all room of the disk."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            continue
