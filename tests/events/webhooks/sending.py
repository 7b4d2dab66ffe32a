"""An outbox in a real database, a webhook sender with the guarded session, and a clock in the test's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from mediagen.core.deliveries import Delivery, DeliveryAttempt, DeliveryQuery, DeliverySnapshot, DeliveryStatus
from mediagen.core.tasks import Task, TaskStatus
from mediagen.core.webhooks import Webhook
from mediagen.db.connection import Database
from mediagen.db.outbox import SqliteOutbox
from mediagen.db.secrets import SqliteSecrets
from mediagen.db.tasks import SqliteJournal
from mediagen.events.webhooks.secrets import SigningSecrets
from mediagen.events.webhooks.sender import WebhookSender
from mediagen.events.webhooks.settings import WebhooksSettings
from mediagen.net.session import Lookup, guarded_session, system_lookup
from mediagen.net.settings import FetchSettings
from tests.contracts.journal import a_task, ended
from tests.events.clock import Clock

SCHEDULE = (0.0, 5.0, 300.0)
LOOPBACK = (ip_network("127.0.0.1/32"),)


async def render(snapshot: DeliverySnapshot) -> bytes:
    return f'{{"id":"{snapshot.delivery.id}","task":"{snapshot.task.id}"}}'.encode()


@dataclass
class Sending:
    """What the tests work with."""

    database: Database
    journal: SqliteJournal
    outbox: SqliteOutbox
    secrets: SigningSecrets
    webhook_sender: WebhookSender
    clock: Clock

    async def end_task(self, url: str, *, owner: str | None = None, status: TaskStatus = TaskStatus.COMPLETED) -> Task:
        """A task that has ended just now, with this webhook."""
        task = ended(
            a_task(owner=owner, webhook=Webhook(url, "http://us")), status, at=self.clock(), result={"note": "done"}
        )
        await self.journal.insert(task)
        self.webhook_sender.wake()
        return task

    async def delivery(self, task: Task) -> tuple[Delivery, list[DeliveryAttempt]]:
        """Where the delivery of a task stands, and what was tried."""
        (found,), _ = await self.outbox.query(DeliveryQuery(task_id=task.id))
        got = await self.outbox.get(found.id)
        assert got is not None
        return got

    async def stands(self, task: Task, status: DeliveryStatus, *, tries: int) -> list[DeliveryAttempt]:
        """Wait until the delivery stands there after so many tries; gives these."""
        async with asyncio.timeout(20):
            while True:
                delivery, attempts = await self.delivery(task)
                if (delivery.status, delivery.tries) == (status, tries):
                    return attempts
                assert delivery.tries <= tries, delivery
                await asyncio.sleep(0.01)

    async def rests(self) -> None:
        """Wait until nothing is on its way and all has been counted: both come a moment after the row."""
        async with asyncio.timeout(20):
            while self.webhook_sender._on_the_way or self.webhook_sender.waiting != await self.outbox.waiting():
                await asyncio.sleep(0.01)

    async def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.forward(seconds)
        self.webhook_sender.wake()


@asynccontextmanager
async def sending(
    folder: Path, *, lookup: Lookup = system_lookup, running: bool = True, fetch: Any = None, **settings: Any
) -> AsyncIterator[Sending]:
    """A webhook sender at work, unless it is not to run yet; ``settings`` of webhooks."""
    clock = Clock()
    given = FetchSettings(**{"allow_cidrs": LOOPBACK, "connect_seconds": 5.0, **(fetch or {})})
    async with Database(folder / "mediagen.db") as database, guarded_session(given, lookup=lookup) as session:
        outbox, secrets = SqliteOutbox(database), SigningSecrets(SqliteSecrets(database), now=clock)
        await secrets.load()
        asked = WebhooksSettings(**{"schedule_seconds": SCHEDULE, **settings})
        webhook_sender = WebhookSender(outbox, session, secrets, render, asked, given, now=clock, chance=lambda: 0.0)
        room = Sending(database, SqliteJournal(database), outbox, secrets, webhook_sender, clock)
        if not running:
            yield room
            return
        async with at_work(webhook_sender):
            yield room


@asynccontextmanager
async def at_work(webhook_sender: WebhookSender) -> AsyncIterator[None]:
    """The webhook sender runs inside the block."""
    async with asyncio.TaskGroup() as group:
        work = group.create_task(webhook_sender.run())
        try:
            yield
        finally:
            work.cancel()


def retried(task: Task) -> Task:
    """The next attempt of an ended task."""
    return replace(
        task.to(TaskStatus.QUEUED, now=task.updated_at), attempt=task.attempt + 1, ended_at=None, result=None
    )
