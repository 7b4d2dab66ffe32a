"""What runs tasks: the registry and its bus, the pipelines, the runner, and the verbs over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from mediagen.app.stores import Stores
from mediagen.compose.pipeline import CompositionPipeline
from mediagen.db.tasks import SqliteJournal
from mediagen.events.bus import MemoryBus
from mediagen.pipelines.base import Pipeline
from mediagen.pipelines.images import ImagePipeline
from mediagen.pipelines.ingest import IngestPipeline
from mediagen.pipelines.inputs import InputLoader
from mediagen.pipelines.previews import Previews
from mediagen.pipelines.saving.placement import placements_in
from mediagen.pipelines.saving.saver import Saver
from mediagen.pipelines.videos import VideoPipeline
from mediagen.settings import Settings
from mediagen.storage.base import Storage
from mediagen.tasks.deletions import Deletions
from mediagen.tasks.dispatcher import LaneDispatcher
from mediagen.tasks.registry import Registry
from mediagen.tasks.runner import STOP_SECONDS, TaskRunner
from mediagen.tasks.service import TaskService
from mediagen.web.ops.task_counts import TaskCounts

STOP_SHARE: Final = 8
"""Each step of the stop may take this part of ``server.drain_seconds``; half is for answers on their way."""

_LOG: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks that run, and what may be done with them."""

    bus: MemoryBus
    dispatcher: LaneDispatcher
    registry: Registry
    runner: TaskRunner
    service: TaskService
    deletions: Deletions
    previews: Previews
    ended: TaskCounts


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What pipelines are made of."""

    stores: Stores
    inputs: InputLoader
    previews: Previews
    films: CompositionPipeline


Recipes: TypeAlias = Callable[[Ingredients], Iterable[Pipeline]]


def recipes(made_of: Ingredients) -> Iterable[Pipeline]:
    """The pipelines of this server, one for each kind of task."""
    stores = made_of.stores
    pool = stores.store.pool
    yield IngestPipeline(Saver(stores.fetcher, stores.store, pool))
    results = Saver(stores.fetcher, stores.store, pool.results)
    yield ImagePipeline(stores.providers, results, made_of.inputs, made_of.previews)
    yield VideoPipeline(stores.providers, results, made_of.inputs)
    yield made_of.films


async def start_tasks(
    settings: Settings, stores: Stores, films: CompositionPipeline, recipes: Recipes, stack: AsyncExitStack
) -> Tasks:
    """Remove what dead runs left behind, then take up the tasks that wait, until ``stack`` is left."""
    journal = SqliteJournal(stores.database, first_delivery_seconds=settings.webhooks.schedule_seconds[0])
    previews = Previews(settings.data_dir, max_bytes=settings.limits.image_bytes)
    await _sweep(journal, stores.storage)
    bus = MemoryBus(stores.database.boot)
    dispatcher = LaneDispatcher(settings.tasks.lanes)
    registry = Registry(journal, bus, dispatcher, now=stores.clock.now)
    stores.clock.on_step(registry.clock_stepped)
    runner = TaskRunner(
        registry,
        dispatcher,
        stores.ledger,
        stores.files,
        recipes(Ingredients(stores, InputLoader(stores.files, stores.storage), previews, films)),
        settings.tasks,
        storage=stores.storage,
        boot=stores.database.boot,
        stop_seconds=min(STOP_SECONDS, settings.server.drain_seconds / STOP_SHARE),
        clock=stores.clock,
    )
    ended = TaskCounts(runner.pipelines)
    bus.listen(None, ended.told)
    # the runner finishes interrupted deletions when it starts, so it must know how before
    deletions = Deletions(registry, runner.debts, stores.ledger, stores.files, stores.storage)
    await stack.enter_async_context(runner)
    return Tasks(
        bus=bus,
        dispatcher=dispatcher,
        registry=registry,
        runner=runner,
        service=TaskService(registry, runner, dispatcher, settings.tasks),
        deletions=deletions,
        previews=previews,
        ended=ended,
    )


async def _sweep(journal: SqliteJournal, storage: Storage) -> None:
    """Remove what dead runs left in the store, before anything runs; what live tasks go on from stays."""
    placements = [placement for task in await journal.live() for placement in placements_in(task.checkpoint)]
    removed = await storage.sweep(
        [placement.upload or {"key": placement.key, "token": placement.token} for placement in placements]
    )
    if removed:
        _LOG.info("store_swept", removed=removed)
