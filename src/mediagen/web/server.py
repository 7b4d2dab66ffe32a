"""The listening side: an aiohttp application with our own ring round it, started and stopped in order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from mediagen.web.api.routing import Admission, register
from mediagen.web.docs.routes import DocumentRoutes, not_found_page
from mediagen.web.feed.hub import Hub
from mediagen.web.http.body import BodyLimits
from mediagen.web.http.connection_limits import Door
from mediagen.web.http.connection_timeouts import Gate, attended
from mediagen.web.http.forwarded import FORWARDED, Forwarded
from mediagen.web.middleware.access_log import FRAMEWORK_LOG, AccessLog
from mediagen.web.middleware.errors import ErrorMiddleware
from mediagen.web.middleware.origin_checks import OriginChecks
from mediagen.web.middleware.rate_limit import Rates
from mediagen.web.middleware.request_counts import Traffic
from mediagen.web.ops.health import HealthRoutes
from mediagen.web.settings import ServerSettings

_LINGER_SECONDS: Final = 2.0
_BACKLOG: Final = 2048
_ACCEPTED_AT_ONCE: Final = 1
"""Connections taken in one turn of the loop. When there is no file left to accept with, asyncio means to rest for a
second; but it tries so many times before it does, logs each, and for each comes back once: with its own number, the
backlog, there is no rest and no end to the log. One by one is also fair to those who are served already."""


def build(
    owners: Iterable[object],
    settings: ServerSettings,
    forwarded: Forwarded,
    rates: Rates,
    admission: Admission,
    traffic: Traffic,
) -> web.Application:
    """The application with the routes of ``owners``, and those that describe them.

    The middlewares, from the outside: the connection's timeouts are told; ``traffic`` counts; errors become answers;
    ``rates`` comes before anything that costs; names and pages are checked. Then the dispatcher asks ``admission``
    who calls.
    """
    app = web.Application(client_max_size=settings.max_json_bytes)
    app[FORWARDED] = forwarded
    errors = ErrorMiddleware(partial(not_found_page, base_path=settings.base_path), base_path=settings.base_path)
    checks = OriginChecks(settings, forwarded)
    app.middlewares.extend((attended, traffic.middleware, errors.middleware, rates.middleware, checks.middleware))
    app.on_response_prepare.extend((errors.add_headers, checks.add_headers, rates.add_headers))
    owners = tuple(owners)
    documents = DocumentRoutes(map(type, owners), base_path=settings.base_path, keys_required=admission.required)
    limits = BodyLimits.of(settings)
    register(app, (*owners, documents), base_path=settings.base_path, limits=limits, admission=admission)
    return app


class Server:
    """Listens inside ``async with``. Leaving: no new connections, feeds closed, what is being answered may finish.

    Raises (on entering):
        OSError: the address cannot be listened on.
    """

    def __init__(
        self, app: web.Application, settings: ServerSettings, door: Door, hub: Hub, health: HealthRoutes
    ) -> None:
        self._settings = settings
        self._door = door
        self._hub = hub
        self._health = health
        self._runner = web.AppRunner(
            app,
            access_log_class=AccessLog,
            logger=FRAMEWORK_LOG,
            # the gate waits for requests; this is both its waits together and never comes first
            keepalive_timeout=settings.keepalive_seconds + settings.header_seconds,
            lingering_time=_LINGER_SECONDS,
            # a small compressed body must not become a huge one
            auto_decompress=False,
            # what is being answered may finish; aiohttp waits this long twice, which leaves half for the tasks
            shutdown_timeout=settings.drain_seconds / 4,
        )
        self._listening: asyncio.Server | None = None
        self.port = settings.port

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            self._listening = await self._listen()
            self.port = self._listening.sockets[0].getsockname()[1]
        except BaseException:
            await self._runner.cleanup()
            raise
        return self

    async def _listen(self) -> asyncio.Server:
        serve = self._runner.server
        if serve is None:
            raise RuntimeError("the runner has not been set up")
        listening = await asyncio.get_running_loop().create_server(
            partial(Gate, self._door, serve), self._settings.host, self._settings.port, backlog=_ACCEPTED_AT_ONCE
        )
        for shown in listening.sockets:
            with socket.fromfd(shown.fileno(), shown.family, shown.type) as listener:
                listener.listen(_BACKLOG)  # how many may wait, which asyncio has set to how many it takes
        return listening

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._health.stopping = True
        if self._listening is not None:
            self._listening.close()
        self._hub.close()
        await asyncio.sleep(0)  # readers that were told to go begin to go
        await self._runner.cleanup()
