"""Looks for what a store may do late: again and again, over restarts, and never at what became a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.tasks import TaskStatus
from mediagen.storage.s3.bucket import TOKEN
from mediagen.storage.s3.storage import S3Storage
from mediagen.tasks.deferred_cleanup import LOOK_SECONDS, LOOKS, Debts
from tests.contracts.journal import a_file, a_task
from tests.infra.s3 import Bucket
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.faults import s3_error
from tests.infra.servers.radosgw import RadosGW
from tests.storage.places import s3_settings
from tests.tasks.scripted import World, world

FILE = a_file()
KEY = FILE.key


@dataclass
class Looking:
    """Debts of a server whose store is a bucket; time passes when the test says so."""

    server: World
    storage: S3Storage
    bucket: Bucket
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """A new process: nothing in memory."""
        server = self.server
        self.debts = Debts(
            server.registry, server.ledger, server.files, {}, self.storage, boot=1, clock=lambda: self.now
        )

    async def owe(self, **more: Any) -> None:
        look = {"key": KEY, "token": FILE.id, "every": True}
        await self.server.ledger.owe_abort({"look": look, "file_id": FILE.id, **more})

    async def settle(self) -> int:
        return await self.debts.settle(due_only=True)

    async def appears(self, token: str = FILE.id) -> None:
        """The store carries out a PUT and the announcement of an upload."""
        await self.bucket.put(KEY, b"late", Metadata={TOKEN: token})
        await self.bucket.client.create_multipart_upload(Bucket=self.bucket.name, Key=KEY)

    async def there(self) -> tuple[int, int]:
        """How many objects there are, and how many unfinished uploads."""
        return len(await self.bucket.keys()), len(await self.bucket.uploads())


@pytest.fixture
async def looking(
    tmp_path: Path, radosgw: RadosGW, bucket: Bucket, fault_proxy: FaultProxyThread
) -> AsyncIterator[Looking]:
    settings = s3_settings(radosgw, bucket, endpoint_url=fault_proxy.url, prefix="", attempts=1)
    async with world(tmp_path, started=False) as server, S3Storage(settings) as storage:
        yield Looking(server, storage, bucket)


async def test_what_appears_is_removed_whenever_that_is(looking: Looking) -> None:
    await looking.owe()
    began, pause = looking.now, LOOK_SECONDS
    assert await looking.settle() == 1

    for _ in range(LOOKS):
        await looking.appears()
        looking.now += pause - 0.1
        assert await looking.settle() == 1
        assert await looking.there() == (1, 1), "it is not due"
        looking.now += 0.1
        left = await looking.settle()
        assert await looking.there() == (0, 0)
        pause *= 2

    assert left == 0
    assert looking.now - began > 1000, "longer than the store may take"


async def test_a_restart_looks_at_once_and_counts_nothing_less(looking: Looking) -> None:
    await looking.owe()
    for _ in range(LOOKS + 3):  # so many quick starts are not so many looks
        looking.start()
        await looking.appears()
        assert await looking.settle() == 1
        assert await looking.there() == (0, 0)
    looking.now += LOOK_SECONDS
    assert await looking.settle() == 1
    looking.start()
    assert await looking.settle() == 1
    await looking.appears()

    looking.now += LOOK_SECONDS
    await looking.settle()
    assert await looking.there() == (1, 1), "the interval is the second one"
    looking.now += LOOK_SECONDS
    await looking.settle()
    assert await looking.there() == (0, 0)


async def test_objects_of_others_stay(looking: Looking) -> None:
    await looking.owe()
    await looking.appears(token="somebody-elses")

    await looking.settle()

    assert await looking.there() == (1, 0)


async def test_what_became_a_file_keeps_its_object(looking: Looking) -> None:
    await looking.owe()
    await looking.appears()
    await looking.server.files.insert(FILE)

    await looking.settle()

    assert await looking.there() == (1, 0)


async def test_nobody_looks_before_the_attempt_has_ended(looking: Looking) -> None:
    """Its row, which makes the object a file, may be on its way to the database."""
    task = replace(a_task(), status=TaskStatus.RUNNING, started_at=a_task().created_at)
    await looking.server.journal.insert(task)
    await looking.server.registry.load()
    await looking.owe(task_id=task.id, attempt=task.attempt)
    await looking.appears()

    assert await looking.settle() == 1
    assert await looking.there() == (1, 1)

    await looking.server.registry.end(task, TaskStatus.CANCELLED)
    await looking.settle()
    assert await looking.there() == (0, 0)


async def test_a_look_in_vain_is_made_again_and_does_not_count(looking: Looking, fault_proxy: FaultProxyThread) -> None:
    await looking.owe()
    await looking.settle()
    await looking.appears()
    rule = fault_proxy.add(s3_error(500, "InternalError"), "HEAD")
    for _ in range(LOOKS):
        looking.now += 1000
        assert await looking.settle() == 1
    fault_proxy.proxy.rules.remove(rule)
    assert await looking.there() == (1, 0)

    looking.now += 1000
    assert await looking.settle() == 1
    assert await looking.there() == (0, 0)
    ((debt_id, _),) = await looking.server.ledger.owed_aborts(2)
    assert await looking.server.ledger.looked(debt_id, more=0) == 0
