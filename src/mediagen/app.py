"""The composition root: the only file that knows every concrete class.

Everything is opened on one exit stack and closed in the opposite order: what listens goes first, then the tasks that
use the rooms below, the database last.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import structlog

from mediagen.allocator import settle_heap, tune_malloc
from mediagen.core.clock import Clock
from mediagen.core.errors import Unavailable, first_cause
from mediagen.core.keys import new_secret
from mediagen.db import clock_record as known_time
from mediagen.db.connection import Database
from mediagen.db.files import SqliteFiles
from mediagen.db.keys import SqliteKeys
from mediagen.db.ledger import SqliteLedger
from mediagen.db.outbox import SqliteOutbox
from mediagen.db.secrets import SqliteSecrets
from mediagen.db.tasks import SqliteJournal
from mediagen.events.bus import MemoryBus
from mediagen.events.webhooks.secrets import SigningSecrets
from mediagen.events.webhooks.sender import Courier
from mediagen.maintenance.purge import HistoryPurge
from mediagen.net.download import Fetcher
from mediagen.net.session import guarded_session, policy_of
from mediagen.pipelines.base import Pipeline
from mediagen.pipelines.images import ImagePipeline
from mediagen.pipelines.ingest import IngestPipeline
from mediagen.pipelines.inputs import Inputs
from mediagen.pipelines.previews import Previews
from mediagen.pipelines.saving.inline_base64 import BodyIntake
from mediagen.pipelines.saving.placement import Keeping, plans_in
from mediagen.pipelines.saving.quota import Quota
from mediagen.pipelines.saving.request_upload import Reception
from mediagen.pipelines.saving.saver import Bringer
from mediagen.pipelines.variants import Variants
from mediagen.pipelines.videos import VideoPipeline
from mediagen.providers.registry import Providers, open_providers
from mediagen.settings import Settings
from mediagen.storage.base import Storage
from mediagen.storage.local.storage import LocalStorage
from mediagen.streams.pool import BufferPool
from mediagen.tasks.deletions import Deletions
from mediagen.tasks.dispatcher import LaneDispatcher
from mediagen.tasks.registry import Registry
from mediagen.tasks.runner import STOP_SECONDS, TaskRunner
from mediagen.tasks.service import TaskService
from mediagen.web.api.views import Views
from mediagen.web.api.webhook_targets import WebhookTargets
from mediagen.web.auth.authenticator import Authenticator
from mediagen.web.auth.keyring import Keyring
from mediagen.web.auth.operator_file import Access, offered
from mediagen.web.auth.signed_urls import Links
from mediagen.web.auth.tickets import Tickets
from mediagen.web.feed.connection_pacing import Crowd
from mediagen.web.feed.event_stream import StreamRoutes
from mediagen.web.feed.hub import Hub
from mediagen.web.feed.snapshots import Snapshots
from mediagen.web.feed.task_json import Fragments
from mediagen.web.feed.websocket import SocketRoutes
from mediagen.web.files.responses import Content
from mediagen.web.files.routes import FileRoutes
from mediagen.web.files.signed_routes import MediaRoutes
from mediagen.web.files.uploads import UploadRoutes
from mediagen.web.http.body import BodyLimits
from mediagen.web.http.connection_limits import Door
from mediagen.web.http.forwarded import Forwarded
from mediagen.web.middleware.rate_limit import Rates
from mediagen.web.middleware.request_counts import Traffic
from mediagen.web.openai_compat.image_responses import ImageAnswers
from mediagen.web.openai_compat.images import ImageRoutes
from mediagen.web.openai_compat.legacy import OlderRoutes
from mediagen.web.openai_compat.media_inputs import Bodies
from mediagen.web.openai_compat.models import ModelRoutes
from mediagen.web.openai_compat.submission import Generations
from mediagen.web.openai_compat.video_views import VideoViews
from mediagen.web.openai_compat.videos import VideoRoutes
from mediagen.web.ops.health import Check, Gauges, HealthRoutes, LoopLag
from mediagen.web.ops.keys import KeyRoutes
from mediagen.web.ops.metrics import MetricsRoutes
from mediagen.web.ops.providers import ProviderRoutes
from mediagen.web.ops.task_counts import Outcomes
from mediagen.web.server import Server, build
from mediagen.web.tasks.ingest import IngestRoutes
from mediagen.web.tasks.routes import TaskRoutes
from mediagen.web.webhooks.payloads import Notices
from mediagen.web.webhooks.routes import WebhookRoutes

if TYPE_CHECKING:
    from mediagen.storage.s3.storage import S3Storage

DATABASE_FILE: Final = "mediagen.db"
MEDIA_DIRECTORY: Final = "media"
_BYTE_THREADS: Final = max(2, min(8, os.cpu_count() or 2))
"""Threads that move and hash bytes: one for each processor. More of them only take turns with the event loop."""
_SEND_THREADS: Final = 8
"""Threads that let the kernel send files to quick readers; slow ones need none while they are waited for."""

_SHARE: Final = 8
"""What one step of the stop may take of ``server.drain_seconds``; half is for answers on their way (``web.server``)."""

_LOG: Final = structlog.get_logger(__name__)


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
    content: Content
    providers: Providers
    opened: bool


@dataclass(frozen=True, slots=True)
class Parts:
    """What recipes are made of."""

    fetcher: Fetcher
    keeping: Keeping
    providers: Providers
    inputs: Inputs
    previews: Previews


Recipes: TypeAlias = Callable[[Parts], Iterable[Pipeline]]


def recipes(parts: Parts) -> Iterable[Pipeline]:
    """What this server can do: a new kind of task is one line more."""
    pool = parts.keeping.pool
    yield IngestPipeline(Bringer(parts.fetcher, parts.keeping, pool))
    results = Bringer(parts.fetcher, parts.keeping, pool.results)
    yield ImagePipeline(parts.providers, results, parts.inputs, parts.previews)
    yield VideoPipeline(parts.providers, results, parts.inputs)


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
        database = await stack.enter_async_context(Database(settings.data_dir / DATABASE_FILE))
        clock = Clock(known=await known_time.last_known(database))
        files, ledger = SqliteFiles(database), SqliteLedger(database)
        journal = SqliteJournal(database, first_delivery_seconds=settings.webhooks.schedule_seconds[0])
        storage = await open_storage(settings, stack)
        threads = ThreadPoolExecutor(_BYTE_THREADS, thread_name_prefix="bytes")
        stack.callback(threads.shutdown, wait=False)
        senders = ThreadPoolExecutor(_SEND_THREADS, thread_name_prefix="send")
        stack.callback(senders.shutdown, wait=False)
        session = await stack.enter_async_context(guarded_session(settings.fetch))
        fetcher = Fetcher(session, settings.fetch)
        providers = await stack.enter_async_context(
            open_providers(
                settings.providers, settings.fetch, folder=settings.data_dir, decode=settings.limits.decoding
            )
        )
        keeping = Keeping(
            storage,
            BufferPool(settings.storage.buffer_bytes, reserved=settings.storage.buffer_bytes // 4),
            threads,
            settings.limits,
            settings.storage.sha256,
            quota=Quota(settings.limits.store_bytes, files.stored_bytes),
        )

        inputs = Inputs(files, storage)
        previews = Previews(settings.data_dir, max_bytes=settings.limits.image_bytes)

        await _sweep(journal, storage)
        bus = MemoryBus(database.boot)
        dispatcher = LaneDispatcher(settings.tasks.lanes)
        registry = Registry(journal, bus, dispatcher, now=clock.now)
        clock.on_step(registry.clock_stepped)
        runner = TaskRunner(
            registry,
            dispatcher,
            ledger,
            files,
            recipes(Parts(fetcher, keeping, providers, inputs, previews)),
            settings.tasks,
            storage=storage,
            boot=database.boot,
            stop_seconds=min(STOP_SECONDS, settings.server.drain_seconds / _SHARE),
            clock=clock,
        )
        deletions = Deletions(registry, runner.debts, ledger, files, storage)
        service = TaskService(registry, runner, dispatcher, settings.tasks)
        outcomes = Outcomes(runner.pipelines)
        bus.listen(None, outcomes.told)
        await stack.enter_async_context(runner)

        forwarded = Forwarded(settings.server)
        links = Links(
            database.link_secret,
            ttl_seconds=settings.storage.url_ttl_seconds,
            base_path=settings.server.base_path,
            public_base_url=settings.storage.public_base_url,
            now=clock.latest,
        )
        views = Views(
            service,
            files,
            base_path=settings.server.base_path,
            links=links,
            now=clock.now,
        )
        outbox, secrets = SqliteOutbox(database), await signing_secrets(database, settings, clock)
        films = VideoViews(files, views, providers)
        notices = Notices(views, films, settings.server.public_url)
        courier = Courier(outbox, session, secrets, notices.body, settings.webhooks, settings.fetch, now=clock.now)
        clock.on_step(courier.clock_stepped)
        bus.listen(None, courier.told)
        fragments = Fragments(views, service)
        hub = Hub(bus, fragments, Snapshots(bus, service, registry.live, fragments))
        lag = LoopLag(settings.server.lag_interval_seconds)
        health = HealthRoutes(
            {
                "database": Check(lambda: _check_database(database)),
                "storage": Check(storage.check),
                "tasks": Check(lambda: _check_runner(runner)),
            },
            lag,
            Gauges(
                lambda: len(registry.live()),
                lambda: dispatcher.waiting,
                lambda: hub.readers,
                lambda: providers.circuits_open,
            ),
            clock,
            lambda: known_time.confirm(database, clock),
        )
        needs_keys = settings.auth.needs_keys(settings.server)
        admin_key = settings.auth.admin_key.get_secret_value()
        operator_key = f"mg_operator_{new_secret()}"
        keyring, tickets = Keyring(SqliteKeys(database), now=clock.latest), Tickets()
        await keyring.load()
        stack.push_async_callback(keyring.note)
        rates = Rates(settings.limits, forwarded, base_path=settings.server.base_path)
        admission = Authenticator(
            keyring, tickets, forwarded, rates, required=needs_keys, admin_key=admin_key, operator_key=operator_key
        )
        await _keep_running(
            stack,
            hub,
            lag.run(),
            health.run(),
            keyring.run(),
            courier.run(),
            known_time.watch(database, clock),
            HistoryPurge(registry, clock, days=settings.tasks.history_days).run(),
        )
        traffic = Traffic(base_path=settings.server.base_path)
        door = Door(settings.server, forwarded)
        reception = Reception(keeping, ledger, boot=database.boot, owes=runner.debts.settle_soon)
        variants = Variants(keeping, reception, files)
        await stack.enter_async_context(variants.running())
        metrics = MetricsRoutes(
            traffic, outcomes, health, lag, dispatcher, hub, keeping, reception, door, courier, providers
        )
        content = Content(
            storage,
            senders,
            redirect=settings.storage.s3.serve == "redirect",
            url_ttl_seconds=settings.storage.url_ttl_seconds,
            stall_seconds=settings.server.body_idle_seconds,
            shared=bool(settings.server.cors_origins),
        )
        targets = WebhookTargets(policy_of(settings.fetch))
        generations = Generations(service)
        bodies = Bodies(reception, fetcher, files, BodyLimits.of(settings.server))
        answers = ImageAnswers(
            generations,
            files,
            storage,
            views,
            previews,
            inline_bytes=settings.limits.inline_image_bytes,
        )
        images = ImageRoutes(generations, providers, bodies, answers, views, targets)
        videos = VideoRoutes(generations, service, providers, bodies, deletions, content, films, targets, variants)
        owners = (
            health,
            IngestRoutes(service, BodyIntake(reception), views, settings.server, targets),
            StreamRoutes(hub, service),
            TaskRoutes(service, deletions, views),
            FileRoutes(files, deletions, content, views),
            MediaRoutes(files, content, links),
            UploadRoutes(files, reception, views, settings.server),
            SocketRoutes(hub, bus, Crowd(lambda: door.open)),
            KeyRoutes(keyring, tickets),
            WebhookRoutes(outbox, courier, secrets),
            ModelRoutes(providers),
            ProviderRoutes(providers),
            images,
            videos,
            OlderRoutes(images, videos, service, files, views),
            metrics,
        )
        application = build(owners, settings.server, forwarded, rates, admission, traffic)
        server = Server(application, settings.server, door, hub, health)
        await stack.enter_async_context(server)
        stack.callback(storage.hurry, settings.server.drain_seconds / _SHARE)  # the first that is done at the end
        url = settings.server.listening_url(server.port)
        await stack.enter_async_context(
            offered(settings.data_dir, Access(settings.server.local_url(server.port), operator_key))
        )
        settle_heap()
        _LOG.info(
            "server_ready", url=url, storage=storage.name, data_dir=str(settings.data_dir), providers=providers.names
        )
        opened = bool(admin_key) or not needs_keys or not keyring.empty
        yield Instance(url, server.port, storage, service, hub, content, providers, opened)
        _LOG.info("server_stopping")
    _LOG.info("server_stopped")


async def serve(settings: Settings, ready: Callable[[Instance], None]) -> int:
    """Run until SIGTERM or SIGINT; the exit status. A second signal ends the process at once.

    ``ready`` is called when the first request can come.
    """
    _raise_open_files()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def asked() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)  # the next one ends the process at once
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    async with AsyncExitStack() as stack:
        ready(await stack.enter_async_context(running(settings)))
        await stop.wait()
        try:
            async with asyncio.timeout(settings.server.drain_seconds):
                await stack.aclose()
        except TimeoutError:
            _LOG.warning("stop_took_too_long", seconds=settings.server.drain_seconds)
            return 1
    return 0


def _raise_open_files() -> None:
    """Let the process have as many sockets and files as the system allows; shells often allow 1,024 unasked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@asynccontextmanager
async def _plain_failures() -> AsyncIterator[None]:
    """Raise what went wrong itself: the group that owns our coroutines wraps it."""
    try:
        yield
    except BaseExceptionGroup as exc:
        raise first_cause(exc) from exc


async def open_storage(settings: Settings, stack: AsyncExitStack) -> LocalStorage | S3Storage:
    """The store that the settings name, open until ``stack`` is left. Raises StorageRefused, StorageUnavailable."""
    if settings.storage.backend == "s3":
        # its library takes over a second to import: those with a local store need not wait for it
        from mediagen.storage.s3.storage import S3Storage

        return await stack.enter_async_context(S3Storage(settings.storage.s3))
    media = settings.data_dir / MEDIA_DIRECTORY
    return await stack.enter_async_context(LocalStorage(media, reserve=settings.storage.reserve_bytes))


async def _sweep(journal: SqliteJournal, storage: Storage) -> None:
    """Remove what dead runs left in the store, before anything runs; what live tasks go on from stays."""
    plans = [plan for task in await journal.live() for plan in plans_in(task.checkpoint)]
    removed = await storage.sweep([plan.upload or {"key": plan.key, "token": plan.token} for plan in plans])
    if removed:
        _LOG.info("store_swept", removed=removed)


async def signing_secrets(database: Database, settings: Settings, clock: Clock) -> SigningSecrets:
    """What webhooks are signed with. Raises Unavailable."""
    configured = settings.webhooks.secret.get_secret_value().split()
    secrets = SigningSecrets(SqliteSecrets(database), configured=configured, now=clock.latest)
    await secrets.load()
    return secrets


async def _keep_running(stack: AsyncExitStack, hub: Hub, *others: Coroutine[Any, Any, None]) -> None:
    """Own the coroutines that live as long as the server; one that fails ends everything."""
    group = await stack.enter_async_context(asyncio.TaskGroup())
    ready = asyncio.Event()
    for work in (hub.run(ready), *others):
        stack.callback(group.create_task(work).cancel)
    await ready.wait()


async def _check_database(database: Database) -> None:
    if not database.healthy:
        raise Unavailable("the database does not take writes")


async def _check_runner(runner: TaskRunner) -> None:
    if not runner.healthy:
        raise Unavailable("no tasks are being taken up")
