"""How the outside learns what happens: views, the live feed, webhooks."""

from __future__ import annotations

from dataclasses import dataclass

from mediagen.app.stores import Stores
from mediagen.app.tasks import Tasks
from mediagen.core.clock import Clock
from mediagen.db.connection import Database
from mediagen.db.outbox import SqliteOutbox
from mediagen.db.secrets import SqliteSecrets
from mediagen.events.webhooks.secrets import SigningSecrets
from mediagen.events.webhooks.sender import WebhookSender
from mediagen.settings import Settings
from mediagen.web.api.views import Views
from mediagen.web.auth.signed_urls import Links
from mediagen.web.feed.hub import Hub
from mediagen.web.feed.snapshots import SnapshotTaker
from mediagen.web.feed.task_renderer import TaskRenderer
from mediagen.web.openai_compat.video_views import VideoViews
from mediagen.web.webhooks.payloads import PayloadBuilder


@dataclass(frozen=True, slots=True)
class Telling:
    """Views for answers, the hub for the feed, the webhook sender for webhooks."""

    links: Links
    views: Views
    videos: VideoViews
    outbox: SqliteOutbox
    secrets: SigningSecrets
    webhook_sender: WebhookSender
    hub: Hub


async def open_telling(settings: Settings, stores: Stores, tasks: Tasks) -> Telling:
    """Load the signing secrets and listen to the bus. Raises Unavailable."""
    clock, base_path = stores.clock, settings.server.base_path
    links = Links(
        stores.database.link_secret,
        ttl_seconds=settings.storage.url_ttl_seconds,
        base_path=base_path,
        public_base_url=settings.storage.public_base_url,
        now=clock.latest,
    )
    views = Views(tasks.service, stores.files, base_path=base_path, links=links, now=clock.now)
    videos = VideoViews(stores.files, views, stores.providers)
    outbox, secrets = SqliteOutbox(stores.database), await signing_secrets(stores.database, settings, clock)
    payloads = PayloadBuilder(views, videos, settings.server.public_url)
    webhook_sender = WebhookSender(
        outbox, stores.session, secrets, payloads.body, settings.webhooks, settings.fetch, now=clock.now
    )
    clock.on_step(webhook_sender.clock_stepped)
    tasks.bus.listen(None, webhook_sender.told)
    renderer = TaskRenderer(views, tasks.service)
    hub = Hub(tasks.bus, renderer, SnapshotTaker(tasks.bus, tasks.service, tasks.registry.live, renderer))
    return Telling(links, views, videos, outbox, secrets, webhook_sender, hub)


async def signing_secrets(database: Database, settings: Settings, clock: Clock) -> SigningSecrets:
    """The secrets that sign webhooks. Raises Unavailable."""
    configured = settings.webhooks.secret.get_secret_value().split()
    secrets = SigningSecrets(SqliteSecrets(database), configured=configured, now=clock.latest)
    await secrets.load()
    return secrets
