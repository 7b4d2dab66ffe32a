"""The routes, and the server that listens for them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from mediagen.app.admission import Admission
from mediagen.app.stores import Stores
from mediagen.app.tasks import STOP_SHARE, Tasks
from mediagen.app.telling import Telling
from mediagen.compose.pipeline import CompositionPipeline
from mediagen.core.errors import Unavailable
from mediagen.db import clock_record
from mediagen.net.session import policy_from_settings
from mediagen.pipelines.saving.request_upload import RequestUploads
from mediagen.pipelines.variants import Variants
from mediagen.settings import Settings
from mediagen.web.api.webhook_targets import WebhookTargets
from mediagen.web.compose.routes import CompositionRoutes
from mediagen.web.feed.event_stream import EventStreamRoutes
from mediagen.web.feed.upgrade_pacing import UpgradePacer
from mediagen.web.feed.websocket import WebSocketRoutes
from mediagen.web.files.responses import FileResponses
from mediagen.web.files.routes import FileRoutes
from mediagen.web.files.signed_routes import SignedUrlRoutes
from mediagen.web.files.uploads import UploadRoutes
from mediagen.web.http.body import BodyLimits
from mediagen.web.middleware.request_counts import Traffic
from mediagen.web.openai_compat.image_responses import ImageResponses
from mediagen.web.openai_compat.images import ImageRoutes
from mediagen.web.openai_compat.legacy import LegacyRoutes
from mediagen.web.openai_compat.media_inputs import BodyParser
from mediagen.web.openai_compat.models import ModelRoutes
from mediagen.web.openai_compat.submission import TaskSubmitter
from mediagen.web.openai_compat.videos import VideoRoutes
from mediagen.web.ops.api_keys import KeyRoutes
from mediagen.web.ops.health import Check, HealthGauges, HealthRoutes, LoopLag
from mediagen.web.ops.metrics import MetricsRoutes
from mediagen.web.ops.providers import ProviderRoutes
from mediagen.web.server import Server, build
from mediagen.web.tasks.ingest import IngestRoutes
from mediagen.web.tasks.routes import TaskRoutes
from mediagen.web.webhooks.routes import WebhookRoutes


@dataclass(frozen=True, slots=True)
class Watching:
    """What health and metrics look at."""

    lag: LoopLag
    health: HealthRoutes
    traffic: Traffic


def open_watching(settings: Settings, stores: Stores, tasks: Tasks, telling: Telling) -> Watching:
    """The health checks and the gauges beside them."""

    async def check_database() -> None:
        if not stores.database.healthy:
            raise Unavailable("the database does not accept writes")

    async def check_runner() -> None:
        if not tasks.runner.healthy:
            raise Unavailable("no tasks are being started")

    lag = LoopLag(settings.server.lag_interval_seconds)
    health = HealthRoutes(
        {"database": Check(check_database), "storage": Check(stores.storage.check), "tasks": Check(check_runner)},
        lag,
        HealthGauges(
            lambda: len(tasks.registry.live()),
            lambda: tasks.dispatcher.waiting,
            lambda: telling.hub.readers,
            lambda: stores.providers.circuits_open,
        ),
        stores.clock,
        lambda: clock_record.confirm(stores.database, stores.clock),
    )
    return Watching(lag, health, Traffic(base_path=settings.server.base_path))


async def listen(
    settings: Settings,
    stores: Stores,
    films: CompositionPipeline,
    tasks: Tasks,
    admission: Admission,
    telling: Telling,
    watching: Watching,
    stack: AsyncExitStack,
) -> tuple[Server, FileResponses]:
    """The listening server, and what answers for the bytes of files.

    Raises:
        OSError: the address cannot be listened on.
    """
    uploads = RequestUploads(
        stores.store, stores.ledger, boot=stores.database.boot, owes=tasks.runner.debts.settle_soon
    )
    variants = Variants(stores.store, uploads, stores.files)
    await stack.enter_async_context(variants.running())
    content = FileResponses(
        stores.storage,
        stores.senders,
        redirect=settings.storage.s3.serve == "redirect",
        url_ttl_seconds=settings.storage.url_ttl_seconds,
        stall_seconds=settings.server.body_idle_seconds,
        shared=bool(settings.server.cors_origins),
    )
    owners = (
        watching.health,
        *_task_routes(settings, stores, tasks, telling, admission, uploads),
        *_file_routes(settings, stores, tasks, telling, content, uploads),
        *_generation_routes(settings, stores, tasks, telling, content, uploads, variants),
        CompositionRoutes(tasks.service, films, telling.views, WebhookTargets(policy_from_settings(settings.fetch))),
        KeyRoutes(admission.keyring, admission.tickets),
        ProviderRoutes(stores.providers),
        _metrics(stores, tasks, admission, telling, watching, uploads),
    )
    application = build(
        owners, settings.server, admission.forwarded, admission.rates, admission.authenticator, watching.traffic
    )
    server = Server(application, settings.server, admission.door, telling.hub, watching.health)
    await stack.enter_async_context(server)
    stack.callback(stores.storage.hurry, settings.server.drain_seconds / STOP_SHARE)  # the first step of the stop
    return server, content


def _task_routes(
    settings: Settings, stores: Stores, tasks: Tasks, telling: Telling, admission: Admission, uploads: RequestUploads
) -> tuple[object, ...]:
    targets = WebhookTargets(policy_from_settings(settings.fetch))
    return (
        IngestRoutes(tasks.service, uploads, telling.views, settings.server, targets),
        TaskRoutes(tasks.service, tasks.deletions, telling.views),
        EventStreamRoutes(telling.hub, tasks.service),
        WebSocketRoutes(telling.hub, tasks.bus, UpgradePacer(lambda: admission.door.open)),
        WebhookRoutes(telling.outbox, telling.webhook_sender, telling.secrets),
    )


def _file_routes(
    settings: Settings, stores: Stores, tasks: Tasks, telling: Telling, content: FileResponses, uploads: RequestUploads
) -> tuple[object, ...]:
    return (
        FileRoutes(stores.files, tasks.deletions, content, telling.views),
        SignedUrlRoutes(stores.files, content, telling.links),
        UploadRoutes(stores.files, uploads, telling.views, settings.server),
    )


def _generation_routes(
    settings: Settings,
    stores: Stores,
    tasks: Tasks,
    telling: Telling,
    content: FileResponses,
    uploads: RequestUploads,
    variants: Variants,
) -> tuple[object, ...]:
    submitter = TaskSubmitter(tasks.service)
    bodies = BodyParser(uploads, stores.fetcher, stores.files, BodyLimits.of(settings.server))
    targets = WebhookTargets(policy_from_settings(settings.fetch))
    answers = ImageResponses(
        submitter,
        stores.files,
        stores.storage,
        telling.views,
        tasks.previews,
        inline_bytes=settings.limits.inline_image_bytes,
    )
    images = ImageRoutes(submitter, stores.providers, bodies, answers, telling.views, targets)
    videos = VideoRoutes(
        submitter,
        tasks.service,
        stores.providers,
        bodies,
        tasks.deletions,
        content,
        telling.videos,
        targets,
        variants,
    )
    older = LegacyRoutes(images, videos, tasks.service, stores.files, telling.views)
    return ModelRoutes(stores.providers), images, videos, older


def _metrics(
    stores: Stores,
    tasks: Tasks,
    admission: Admission,
    telling: Telling,
    watching: Watching,
    uploads: RequestUploads,
) -> MetricsRoutes:
    return MetricsRoutes(
        watching.traffic,
        tasks.ended,
        watching.health,
        watching.lag,
        tasks.dispatcher,
        telling.hub,
        stores.store,
        uploads,
        admission.door,
        telling.webhook_sender,
        stores.providers,
    )
