"""The listening side: an aiohttp application with our own ring round it, started and stopped in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from mediagen.web.bodies import BodyLimits
from mediagen.web.documents import DocumentRoutes
from mediagen.web.edge import AccessLog, Edge
from mediagen.web.feed import Hub
from mediagen.web.health import HealthRoutes
from mediagen.web.origins import Origins
from mediagen.web.routing import Admission, register
from mediagen.web.settings import ServerSettings
from mediagen.web.traffic import Traffic

_KEEPALIVE_SECONDS: Final = 30.0
_LINGER_SECONDS: Final = 2.0
_BACKLOG: Final = 2048


def build(
    owners: Iterable[object],
    settings: ServerSettings,
    origins: Origins,
    admission: Admission,
    traffic: Traffic | None = None,
) -> web.Application:
    """The application with the routes of ``owners``, and those that describe them.

    ``admission`` lets callers in, ``traffic`` counts the answers.
    """
    app = web.Application(client_max_size=settings.max_json_bytes)
    if traffic is not None:
        app.middlewares.append(traffic.middleware)  # outermost: it sees what the edge makes of an error
    Edge(origins, base_path=settings.base_path).install(app)
    owners = tuple(owners)
    documents = DocumentRoutes(map(type, owners), base_path=settings.base_path, keys_required=admission.required)
    limits = BodyLimits(settings.max_json_bytes, settings.body_idle_seconds)
    register(app, (*owners, documents), base_path=settings.base_path, limits=limits, admission=admission)
    return app


class Server:
    """Listens inside ``async with``. Leaving: no new connections, feeds closed, what is being answered may finish.

    Raises (on entering):
        OSError: the address cannot be listened on.
    """

    def __init__(self, app: web.Application, settings: ServerSettings, hub: Hub, health: HealthRoutes) -> None:
        self._settings = settings
        self._hub = hub
        self._health = health
        self._runner = web.AppRunner(
            app,
            access_log_class=AccessLog,
            # also the time that a client has for the head of its request
            keepalive_timeout=_KEEPALIVE_SECONDS,
            lingering_time=_LINGER_SECONDS,
            # a small compressed body must not become a huge one
            auto_decompress=False,
            # what is being answered may finish; aiohttp waits this long twice, which leaves half for the tasks
            shutdown_timeout=settings.drain_seconds / 4,
        )
        self.port = settings.port

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self._settings.host, self._settings.port, backlog=_BACKLOG)
            await site.start()
            self.port = site.port
        except BaseException:
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._health.stopping = True
        for site in tuple(self._runner.sites):
            await site.stop()
        self._hub.close()
        await asyncio.sleep(0)  # readers that were told to go begin to go
        await self._runner.cleanup()
