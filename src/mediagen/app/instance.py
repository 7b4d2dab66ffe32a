"""The whole server as one context manager.

Everything is opened on one exit stack and closed in the opposite order: the listener goes first, then the tasks, which
use the stores, and the database last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from mediagen.allocator import settle_heap, tune_malloc
from mediagen.app.admission import open_admission
from mediagen.app.films import open_films
from mediagen.app.stores import open_stores
from mediagen.app.tasks import Recipes, recipes, start_tasks
from mediagen.app.telling import open_telling
from mediagen.app.web import listen, open_watching
from mediagen.core.errors import first_cause
from mediagen.db import clock_record
from mediagen.maintenance.purge import HistoryPurge
from mediagen.providers.registry import Providers
from mediagen.settings import Settings
from mediagen.storage.base import Storage
from mediagen.tasks.service import TaskService
from mediagen.web.auth.operator_file import Access, offered
from mediagen.web.feed.hub import Hub
from mediagen.web.files.responses import FileResponses

_LOG: Final = structlog.get_logger("mediagen.app")


@dataclass(frozen=True, slots=True)
class Instance:
    """A server that runs.

    ``url`` is where it listens, without a final slash. ``opened``: somebody has a key for it, or none is needed.
    """

    url: str
    port: int
    storage: Storage
    service: TaskService
    hub: Hub
    content: FileResponses
    providers: Providers
    opened: bool


@asynccontextmanager
async def running(settings: Settings, recipes: Recipes = recipes) -> AsyncIterator[Instance]:
    """The whole server, ready for requests inside the block.

    Raises:
        ConfigurationError: it must not run like this.
        MediagenError: the database or the store cannot be opened.
        OSError: the address cannot be listened on.
    """
    tune_malloc()
    async with _plain_failures(), AsyncExitStack() as stack:
        stores = await open_stores(settings, stack)
        films = await open_films(settings, stores, stack)
        tasks = await start_tasks(settings, stores, films, recipes, stack)
        telling = await open_telling(settings, stores, tasks)
        admission = await open_admission(settings, stores, stack)
        watching = open_watching(settings, stores, tasks, telling)
        await _keep_running(
            stack,
            telling.hub,
            watching.lag.run(),
            watching.health.run(),
            admission.keyring.run(),
            telling.webhook_sender.run(),
            clock_record.watch(stores.database, stores.clock),
            HistoryPurge(tasks.registry, stores.clock, days=settings.tasks.history_days).run(),
        )
        server, content = await listen(settings, stores, films, tasks, admission, telling, watching, stack)
        access = Access(settings.server.local_url(server.port), admission.operator_key)
        await stack.enter_async_context(offered(settings.data_dir, access))
        settle_heap()
        url = settings.server.listening_url(server.port)
        _LOG.info(
            "server_ready",
            url=url,
            storage=stores.storage.name,
            data_dir=str(settings.data_dir),
            providers=stores.providers.names,
        )
        yield Instance(
            url, server.port, stores.storage, tasks.service, telling.hub, content, stores.providers, admission.opened
        )
        _LOG.info("server_stopping")
    _LOG.info("server_stopped")


@asynccontextmanager
async def _plain_failures() -> AsyncIterator[None]:
    """Raise the first cause itself: the group that owns our coroutines wraps it."""
    try:
        yield
    except BaseExceptionGroup as exc:
        raise first_cause(exc) from exc


async def _keep_running(stack: AsyncExitStack, hub: Hub, *others: Coroutine[Any, Any, None]) -> None:
    """Own the coroutines that live as long as the server; one that fails ends everything."""
    group = await stack.enter_async_context(asyncio.TaskGroup())
    ready = asyncio.Event()
    for work in (hub.run(ready), *others):
        stack.callback(group.create_task(work).cancel)
    await ready.wait()
