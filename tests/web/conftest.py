"""The real application on loopback: real SQLite, a real store on disk, tasks that wait for the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest

from mediagen.app import tasks as wiring
from mediagen.app.instance import Instance, running
from mediagen.app.tasks import Ingredients
from mediagen.core.files import Checksum, File, FileKind
from mediagen.settings import Settings
from tests.infra.s3 import Bucket
from tests.infra.servers.radosgw import RadosGW
from tests.web.scripted import Scripted


@dataclass
class House:
    """A server, its scripted tasks, and a client of it."""

    instance: Instance
    scripted: list[Scripted]
    client: aiohttp.ClientSession
    stop: Callable[[], Coroutine[Any, Any, None]]

    @property
    def url(self) -> str:
        return self.instance.url

    @property
    def pipeline(self) -> Scripted:
        """What stands in for ingest, unless the server was started with its real recipes."""
        return self.scripted[0]

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON and headers of the answer."""
        async with self.client.request(method, self.url + path, **options) as answer:
            return answer.status, await answer.json(content_type=None), answer.headers

    async def submit(self, **fields: Any) -> str:
        """Id of a new task."""
        status, task, _ = await self.ask("POST", "/v1/ingest", json={"url": "http://example.com/a"} | fields)
        assert status == 202, task
        return str(task["id"])

    async def ended(self, task_id: str) -> dict[str, Any]:
        """The task, once it has ended."""
        await self.instance.service.wait(task_id)
        _, task, _ = await self.ask("GET", f"/v1/tasks/{task_id}")
        return dict(task)


DATA = bytes(range(256)) * 40


async def stored(
    house: House,
    data: bytes = DATA,
    media_type: str = "video/mp4",
    kind: FileKind = FileKind.VIDEO,
    name: str = "a.mp4",
) -> File:
    """A file that a task of its own has made."""
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)
    outcome = await house.pipeline.store(data, task_id=task_id, media_type=media_type, filename=name, kind=kind)
    stage.succeed(outcome)
    await house.instance.service.wait(task_id)
    return outcome.files[0]


def in_bucket(store: RadosGW, bucket: Bucket, **s3: Any) -> dict[str, Any]:
    """Settings under ``storage`` for a bucket of the S3 store of this run."""
    return {
        "backend": "s3",
        "s3": {
            "bucket": bucket.name,
            "endpoint_url": store.endpoint,
            "region": store.region,
            "access_key_id": store.admin.access_key,
            "secret_access_key": store.admin.secret_key,
            **s3,
        },
    }


Start: TypeAlias = Callable[..., Awaitable[House]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a server with these settings (tables as keywords), with its real recipes or with scripted ones."""
    async with AsyncExitStack() as houses:

        async def started(*, real: bool = False, **tables: Any) -> House:
            client = await houses.enter_async_context(aiohttp.ClientSession())
            stack = await houses.enter_async_context(AsyncExitStack())
            made: list[Scripted] = []

            def recipes(made_of: Ingredients) -> list[Scripted]:
                made.append(Scripted(made_of.stores.store.storage))
                return made

            settings = Settings(
                data_dir=tmp_path / "data", **{**tables, "server": {"port": 0, **tables.get("server", {})}}
            )
            instance = await stack.enter_async_context(running(settings, wiring.recipes if real else recipes))
            return House(instance, made, client, stack.aclose)

        yield started


@pytest.fixture
async def house(start: Start) -> House:
    """A server with the settings that it comes with."""
    return await start()


@pytest.fixture
def house_file() -> File:
    """A file of no server."""
    return File(
        id="file_0123456789abcdef0123456789abcdef",
        key="videos/file_0123.mp4",
        filename="a.mp4",
        bytes=3,
        media_type="video/mp4",
        kind=FileKind.VIDEO,
        checksum=Checksum("crc32", "00000000"),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        etag="tag",
    )
