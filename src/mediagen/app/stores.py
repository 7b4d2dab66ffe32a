"""What keeps and moves bytes: the database, the store, the download client, the threads, the providers."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mediagen.core.clock import Clock
from mediagen.db import clock_record
from mediagen.db.connection import Database
from mediagen.db.files import SqliteFiles
from mediagen.db.ledger import SqliteLedger
from mediagen.net.download import Fetcher
from mediagen.net.session import Session, guarded_session
from mediagen.pipelines.saving.placement import StoreContext
from mediagen.pipelines.saving.quota import Quota
from mediagen.providers.registry import Providers, open_providers
from mediagen.settings import Settings
from mediagen.storage.base import Storage
from mediagen.storage.local.storage import LocalStorage
from mediagen.streams.pool import BufferPool

if TYPE_CHECKING:
    from mediagen.storage.s3.storage import S3Storage

DATABASE_FILE: Final = "mediagen.db"
MEDIA_DIRECTORY: Final = "media"
_BYTE_THREADS: Final = max(2, min(8, os.cpu_count() or 2))
"""Threads that move and hash bytes: one for each processor. More of them only take turns with the event loop."""
_SEND_THREADS: Final = 8
"""Threads in which the kernel sends files to fast clients; waiting for slow ones needs no thread."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Everything below the tasks."""

    database: Database
    clock: Clock
    files: SqliteFiles
    ledger: SqliteLedger
    storage: Storage
    session: Session
    fetcher: Fetcher
    providers: Providers
    store: StoreContext
    senders: ThreadPoolExecutor


async def open_stores(settings: Settings, stack: AsyncExitStack) -> Stores:
    """Open everything that keeps or moves bytes, until ``stack`` is left.

    Raises:
        MediagenError: the database or the store cannot be opened.
    """
    database = await stack.enter_async_context(Database(settings.data_dir / DATABASE_FILE))
    files = SqliteFiles(database)
    storage = await open_storage(settings, stack)
    session = await stack.enter_async_context(guarded_session(settings.fetch))
    providers = await stack.enter_async_context(
        open_providers(settings.providers, settings.fetch, folder=settings.data_dir, decode=settings.limits.decoding)
    )
    buffers = BufferPool(settings.storage.buffer_bytes, reserved=settings.storage.buffer_bytes // 4)
    store = StoreContext(
        storage,
        buffers,
        _threads(stack, _BYTE_THREADS, "bytes"),
        settings.limits,
        settings.storage.sha256,
        quota=Quota(settings.limits.store_bytes, files.stored_bytes),
    )
    return Stores(
        database=database,
        clock=Clock(known=await clock_record.last_known(database)),
        files=files,
        ledger=SqliteLedger(database),
        storage=storage,
        session=session,
        fetcher=Fetcher(session, settings.fetch),
        providers=providers,
        store=store,
        senders=_threads(stack, _SEND_THREADS, "send"),
    )


async def open_storage(settings: Settings, stack: AsyncExitStack) -> LocalStorage | S3Storage:
    """The store that the settings name, open until ``stack`` is left. Raises StorageRefused, StorageUnavailable."""
    if settings.storage.backend == "s3":
        # the S3 library takes over a second to import; servers with a local store do not wait for it
        from mediagen.storage.s3.storage import S3Storage

        return await stack.enter_async_context(S3Storage(settings.storage.s3))
    media = settings.data_dir / MEDIA_DIRECTORY
    return await stack.enter_async_context(LocalStorage(media, reserve=settings.storage.reserve_bytes))


def _threads(stack: AsyncExitStack, count: int, name: str) -> ThreadPoolExecutor:
    threads = ThreadPoolExecutor(count, thread_name_prefix=name)
    stack.callback(threads.shutdown, wait=False)
    return threads
