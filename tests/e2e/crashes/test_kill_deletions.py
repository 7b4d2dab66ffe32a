"""kill -9 while files, tasks and films with their pictures are deleted: afterwards each is whole or gone.

What the server said was deleted is gone; nothing is listed without its bytes, and the store has nothing without a row.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api, Refused
from tests.e2e.traffic import Traffic
from tests.infra.process import need
from tests.infra.s3 import Bucket
from tests.infra.servers.faults import BlackHole, Fault, StallAnswer, s3_error
from tests.infra.servers.mediagen import Server

pytestmark = pytest.mark.e2e

VARIANTS = ("thumbnail", "spritesheet")
FILM = {"model": "builtin-clip", "prompt": "Waves", "seconds": "4", "size": "320x180"}
OBJECT = r"/(assets|videos|thumbnails)/"


@pytest.fixture(autouse=True)
def ffmpeg() -> None:
    need("ffmpeg", "ffprobe", "setpriv")


class Shelf:
    """What is in the server, and where its bytes are."""

    def __init__(self, server: Server, api: Api, bucket: Bucket | None) -> None:
        self.server = server
        self.api = api
        self._bucket = bucket

    async def file(self) -> str:
        """The path of a new file."""
        file = await self.api.call("POST", "/v1/files", data=b"abc", headers={"Content-Type": "text/plain"})
        return f"/v1/files/{file['id']}"

    async def task(self) -> str:
        """The path of a new task with its file."""
        data = base64.b64encode(b"of a task").decode()
        task = await self.api.call("POST", "/v1/ingest", json={"data": data})
        return f"/v1/tasks/{task['id']}?media=true"

    async def film(self) -> str:
        """The path of a new film with its pictures."""
        film = await self.api.call("POST", "/v1/videos", json=FILM)
        await self.api.completed(film["task_id"])
        for name in VARIANTS:
            path = f"/v1/videos/{film['id']}/content?variant={name}"
            async with self.api.session.get(path) as answer:
                assert answer.status == 200, await answer.text()
        return f"/v1/videos/{film['id']}"

    async def delete(self, path: str) -> bool:
        """Whether the server said that it is gone, before it was killed."""
        try:
            async with self.api.session.delete(path) as answer:
                assert answer.status in (200, 204), await answer.text()
        except aiohttp.ClientError:
            return False
        return True

    async def objects(self) -> list[str]:
        """Every object by the id in its name."""
        keys = [path.name for path in leavings.media(self.server)]
        if self._bucket is not None:
            keys = [key.rpartition("/")[2] for key in await self._bucket.keys()]
        return sorted(key.partition(".")[0] for key in keys)

    async def check(self, deleted: list[str]) -> None:
        """At once after a start: what is listed has its bytes, what has bytes is listed, what was deleted is gone."""
        files = await self.api.files()
        pictures: list[Any] = [one for file in files for one in file["variants"]]  # type: ignore[typeddict-item]
        assert len(await self.objects()) == len(files) + len(pictures)
        for url in [*(file["url"] for file in files), *(one["url"] for one in pictures)]:
            async with self.api.session.get(url) as answer:
                assert (answer.status, bool(await answer.read())) == (200, True)
        for task in await self.api.tasks():
            assert not (task["result"] or {}).get("file", {}).get("deleted"), "a task without what it made"
        for path in deleted:
            async with self.api.session.get(path.partition("?")[0]) as answer:
                assert answer.status == 404, path
        if self._bucket is not None:
            assert await self._bucket.uploads() == []


@asynccontextmanager
async def shelf(folder: Path, bucket: Bucket | None = None, endpoint: str = "") -> AsyncIterator[Shelf]:
    store = {} if bucket is None else configuration.s3(bucket, endpoint, serve="stream")
    async with Server(folder, store) as server, Api(server.url) as api:
        yield Shelf(server, api, bucket)


async def deleted_and_killed(here: Shelf, paths: list[str], kill: Callable[[], Awaitable[None]]) -> list[str]:
    """Delete all of them at once, kill meanwhile, start again; gives those that were said to be gone."""
    async with asyncio.TaskGroup() as group:
        deletions = {path: group.create_task(here.delete(path)) for path in paths}
        await kill()
        await here.server.kill9()
    await here.server.restart()
    return [path for path, deletion in deletions.items() if deletion.result()]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", ["local", "s3"])
async def test_at_random_moments(tmp_path: Path, bucket: Bucket, chance: random.Random, backend: str) -> None:
    async with shelf(tmp_path, bucket if backend == "s3" else None) as here:
        gone: list[str] = []
        for number in range(3):
            films = [await here.film()] if number % 2 == 0 else []
            others = await asyncio.gather(*(make() for make in (here.file, here.task) for _ in range(6)))
            moment = chance.uniform(0, 0.04 if backend == "local" else 0.1)

            gone += await deleted_and_killed(here, [*films, *others], partial(asyncio.sleep, moment))

            await here.check(gone)


async def test_the_moment_that_a_file_is_gone_from_the_disk(tmp_path: Path) -> None:
    def count(folder: Path) -> int:
        return sum(len(names) for _, _, names in os.walk(folder))

    def kill_when_one_is_gone(folder: Path, before: int, pid: int) -> None:
        """Between the removal and the row is a sync of the database."""
        end = time.monotonic() + 20
        while count(folder) == before:
            if time.monotonic() > end:
                raise TimeoutError("no file went")
        os.kill(pid, signal.SIGKILL)

    async with shelf(tmp_path) as here:
        for make in (here.film, here.file):
            path, folder = await make(), here.server.data_dir / "media"
            killing = partial(asyncio.to_thread, kill_when_one_is_gone, folder, count(folder), here.server.pid)

            gone = await deleted_and_killed(here, [path], killing)

            await here.check(gone)
            assert await here.objects() == [], "a deletion that has begun is finished"
            assert await here.api.files() == []


@pytest.mark.parametrize(("what", "fault"), [("film", StallAnswer), ("file", BlackHole), ("task", StallAnswer)])
async def test_while_the_store_is_asked(
    tmp_path: Path, bucket: Bucket, traffic: Traffic, what: str, fault: type[Fault]
) -> None:
    """Of a film one object after the other: the second one is asked for when the server dies."""
    async with shelf(tmp_path, bucket, traffic.proxy.url) as here:
        path = await {"film": here.film, "file": here.file, "task": here.task}[what]()
        skip = 1 if what == "film" else 0
        rule = traffic.proxy.add(fault(), "DELETE", OBJECT, skip=skip)
        mark = traffic.now

        async def asked() -> None:
            await traffic.reaches(lambda _: len([one for one in traffic.since(mark) if one.method == "DELETE"]) > skip)
            if fault is StallAnswer:
                await traffic.reaches(lambda _: traffic.since(mark)[-1].status == 204)

        async with asyncio.TaskGroup() as group:
            deletion = group.create_task(here.delete(path))
            await asked()
            await here.server.kill9()
        traffic.proxy.proxy.rules.remove(rule)
        await here.server.restart()

        assert not deletion.result()
        await here.check([path])
        assert await here.objects() == []
        assert await here.api.files() == []


async def test_a_store_that_refuses_for_a_while(tmp_path: Path, bucket: Bucket, traffic: Traffic) -> None:
    async with shelf(tmp_path, bucket, traffic.proxy.url) as here:
        path = await here.file()
        rule = traffic.proxy.add(s3_error(403, "AccessDenied"), "DELETE", OBJECT)
        with pytest.raises(Refused, match="storage_unavailable"):
            await here.api.call("DELETE", path)

        await here.server.restart()
        assert [f"/v1/files/{file['id']}" for file in await here.api.files()] == [path]

        traffic.proxy.proxy.rules.remove(rule)
        await here.server.restart()
        await here.check([path])
