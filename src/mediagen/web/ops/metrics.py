"""``/metrics`` in Prometheus' text format (version 0.0.4).

Counts are kept by ``traffic`` and the streams' ``TransferTotals``; gauges are read when they are asked for. There is no
registry of the process: a scrape is made from this server's own parts. The families are made on the event loop, where
what they read cannot change under them; /proc is read and the text written in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from itertools import accumulate
from typing import Final

from aiohttp import hdrs, web
from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from mediagen import __version__
from mediagen.core.deliveries import DeliveryStatus
from mediagen.core.errors import Unavailable
from mediagen.core.keys import Scope
from mediagen.events.webhooks.sender import WebhookSender
from mediagen.pipelines.saving.placement import StoreContext
from mediagen.pipelines.saving.request_upload import RequestUploads
from mediagen.providers.calls.call_queue import Ending
from mediagen.providers.calls.circuit_breaker import CircuitState
from mediagen.providers.registry import Providers
from mediagen.tasks.dispatcher import LaneDispatcher
from mediagen.web.api.routing import Call, Empty, route
from mediagen.web.feed.hub import Hub
from mediagen.web.http.connection_limits import Door
from mediagen.web.middleware.request_counts import BOUNDS, Traffic
from mediagen.web.ops.health import HealthRoutes, LoopLag
from mediagen.web.ops.task_counts import TaskCounts

PREFIX: Final = "mediagen"
_STORED_SECONDS: Final = 0.5
_CIRCUIT: Final = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}
_ENDS: Final = (*map(str, BOUNDS), "+Inf")


class MetricsRoutes:
    """``/metrics``."""

    def __init__(
        self,
        traffic: Traffic,
        outcomes: TaskCounts,
        health: HealthRoutes,
        lag: LoopLag,
        dispatcher: LaneDispatcher,
        hub: Hub,
        store: StoreContext,
        uploads: RequestUploads,
        door: Door,
        webhook_sender: WebhookSender,
        providers: Providers,
    ) -> None:
        self._traffic = traffic
        self._outcomes = outcomes
        self._health = health
        self._lag = lag
        self._dispatcher = dispatcher
        self._hub = hub
        self._store = store
        self._uploads = uploads
        self._door = door
        self._webhook_sender = webhook_sender
        self._providers = providers
        self._stored = 0

    @route("GET|HEAD", "/metrics", "Metrics for Prometheus", media_type="text/plain", needs=Scope.METRICS)
    async def metrics(self, _call: Call[Empty, Empty]) -> web.StreamResponse:
        with suppress(TimeoutError, Unavailable):  # then the last figure has to do
            async with asyncio.timeout(_STORED_SECONDS):
                self._stored = await self._store.quota.stored()
        families = (
            *self._answers(),
            *self._tasks(),
            *self._bytes(),
            *self._webhooks(),
            *self._paid_calls(),
            *self._spending(),
            *self._connections(),
            *self._state(),
        )
        text = await asyncio.to_thread(self._text, families)
        return web.Response(
            body=text, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_PLAIN_0_0_4, hdrs.CACHE_CONTROL: "no-store"}
        )

    def _answers(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            f"{PREFIX}_http_requests", "Requests answered", labels=("route", "method", "status")
        )
        for labels, count in self._traffic.requests.items():
            requests.add_metric(labels, count)
        yield requests
        durations = HistogramMetricFamily(
            f"{PREFIX}_http_request_duration_seconds",
            "Time until the answer was ready; feeds and what monitors ask left out",
            labels=("route", "method"),
        )
        for names, timing in self._traffic.timings.items():
            durations.add_metric(names, list(zip(_ENDS, accumulate(timing.buckets), strict=True)), timing.total)
        yield durations

    def _tasks(self) -> Iterator[Metric]:
        tasks = GaugeMetricFamily(f"{PREFIX}_tasks", "Tasks that have not ended", labels=("lane", "state"))
        slots = GaugeMetricFamily(f"{PREFIX}_lane_slots", "Tasks that may run at once", labels=("lane",))
        for name, lane in self._dispatcher.lanes.items():
            tasks.add_metric((name, "running"), lane.running)
            tasks.add_metric((name, "queued"), len(lane.waiting))
            slots.add_metric((name,), lane.slots)
        yield from (tasks, slots)
        yield GaugeMetricFamily(f"{PREFIX}_queue_depth", "Tasks that wait, over all lanes", self._dispatcher.waiting)
        ended = CounterMetricFamily(f"{PREFIX}_tasks_ended", "Tasks that ended", labels=("kind", "status", "code"))
        for labels, count in self._outcomes.ended.items():
            ended.add_metric(labels, count)
        yield ended

    def _bytes(self) -> Iterator[Metric]:
        tally, pool = self._store.tally, self._store.pool
        yield CounterMetricFamily(f"{PREFIX}_received_bytes", "Bytes received from sources and callers", tally.received)
        yield CounterMetricFamily(f"{PREFIX}_stored_bytes", "Bytes that the store acknowledged", tally.stored)
        yield GaugeMetricFamily(f"{PREFIX}_buffer_lent_bytes", "Part buffers in use", pool.lent)
        yield GaugeMetricFamily(f"{PREFIX}_buffer_waiting", "Transfers that wait for a part buffer", pool.waiting)
        yield GaugeMetricFamily(f"{PREFIX}_buffer_budget_bytes", "Part buffers that may be in use", pool.budget)

        quota = self._store.quota
        yield GaugeMetricFamily(f"{PREFIX}_store_bytes", "Bytes of all files", self._stored)
        yield GaugeMetricFamily(f"{PREFIX}_store_reserved_bytes", "Room held by transfers under way", quota.reserved)
        yield GaugeMetricFamily(f"{PREFIX}_store_limit_bytes", "limits.store_bytes; 0: none", quota.limit)
        yield GaugeMetricFamily(f"{PREFIX}_uploads", "Uploads that are being taken in", self._uploads.active)

    def _connections(self) -> Iterator[Metric]:
        door = self._door
        yield GaugeMetricFamily(f"{PREFIX}_connections", "Connections of clients", door.open)
        yield GaugeMetricFamily(f"{PREFIX}_connections_limit", "Connections that there may be", door.most)
        refused = CounterMetricFamily(f"{PREFIX}_connections_refused", "Connections refused", labels=("reason",))
        for why, count in door.refused.items():
            refused.add_metric((why,), count)
        yield refused
        cut = CounterMetricFamily(
            f"{PREFIX}_connections_cut", "Connections ended because we waited too long", labels=("waited_for",)
        )
        for what, count in door.cut.items():
            cut.add_metric((what,), count)
        yield cut

    def _webhooks(self) -> Iterator[Metric]:
        attempts = CounterMetricFamily(
            f"{PREFIX}_webhook_attempts", "Requests to webhooks by what followed", labels=("outcome",)
        )
        for status in DeliveryStatus:
            outcome = "retried" if status is DeliveryStatus.WAITING else str(status)
            attempts.add_metric((outcome,), self._webhook_sender.outcomes[status])
        yield attempts
        yield GaugeMetricFamily(f"{PREFIX}_webhooks_waiting", "Deliveries that wait", self._webhook_sender.waiting)

    def _paid_calls(self) -> Iterator[Metric]:
        name, labels = f"{PREFIX}_provider", ("provider",)
        state = GaugeMetricFamily(f"{name}_circuit_state", "0 closed, 1 half open, 2 open", labels=labels)
        limit = GaugeMetricFamily(f"{name}_limit", "Paid calls that may be in flight, for now", labels=labels)
        in_flight = GaugeMetricFamily(f"{name}_in_flight", "Paid calls in flight", labels=labels)
        waiting = GaugeMetricFamily(f"{name}_waiting", "Attempts that wait for their turn", labels=labels)
        pause = GaugeMetricFamily(f"{name}_pause_seconds", "Until paid calls are begun; 0: they are", labels=labels)
        calls = CounterMetricFamily(
            f"{name}_calls", "Paid calls by how they ended; not_asked: not made", labels=(*labels, "outcome")
        )
        for provider, call_queue in self._providers.call_queues.items():
            state.add_metric((provider,), _CIRCUIT[call_queue.circuit_breaker.state])
            limit.add_metric((provider,), call_queue.concurrency_limit.limit)
            in_flight.add_metric((provider,), call_queue.concurrency_limit.in_flight)
            waiting.add_metric((provider,), call_queue.waiting)
            pause.add_metric((provider,), call_queue.opens_in)
            for ending in Ending:
                calls.add_metric((provider, str(ending)), call_queue.endings[ending])
        yield from (state, limit, in_flight, waiting, pause, calls)

    def _spending(self) -> Iterator[Metric]:
        name, spending = f"{PREFIX}_provider", self._providers.spending
        cost = CounterMetricFamily(f"{name}_cost_usd", "US dollars, as far as providers say", labels=("provider",))
        for provider, dollars in spending.cost_usd.items():
            cost.add_metric((provider,), dollars)
        yield cost
        used = CounterMetricFamily(
            f"{name}_usage", "What work took, as far as providers say", labels=("provider", "unit")
        )
        for labels, amount in spending.used.items():
            used.add_metric(labels, amount)
        yield used

    def _state(self) -> Iterator[Metric]:
        lag = f"{PREFIX}_event_loop_lag"
        yield GaugeMetricFamily(f"{lag}_seconds", "How late the event loop was, last measurement", self._lag.last)
        yield GaugeMetricFamily(f"{lag}_max_seconds", "The same, worst of the last minute", self._lag.worst)
        yield GaugeMetricFamily(f"{PREFIX}_feed_readers", "Connections that follow tasks", self._hub.readers)
        checks = GaugeMetricFamily(f"{PREFIX}_check_ok", "Whether a part works; as of /readyz", labels=("check",))
        for name, good in self._health.known().items():
            if good is not None:
                checks.add_metric((name,), good)
        yield checks
        about = GaugeMetricFamily(f"{PREFIX}_info", "Always 1", labels=("version",))
        about.add_metric((__version__,), 1)
        yield about

    @cached_property
    def _process(self) -> ProcessCollector:
        """Memory, processor time, open files of this process; made in a thread, since it reads /proc."""
        return ProcessCollector(namespace=PREFIX, registry=None)

    def _text(self, families: Iterable[Metric]) -> bytes:
        return generate_latest(_Scrape((*families, *self._process.collect())))


class _Scrape(Collector):
    """Families that have been made already, in the shape that the library writes."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
