"""The courier: brings what is in the outbox to its webhooks, until each is delivered or has failed for good.

    rows that are due ─▶ body, made now ─▶ signed ─▶ POST through the guarded session ─▶ attempt and outcome, a row

Nothing is remembered but what is on its way. A delivery whose server was killed is sent again with the same id: at
least once. Deliveries of one target start in the order in which they are due, a few at a time, so that a receiver
that is slow holds up its own alone.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import structlog

from mediagen.core.clock import utc_now
from mediagen.core.deliveries import Delivery, DeliveryAttempt, DeliverySnapshot, DeliveryStatus
from mediagen.core.errors import MediagenError, NotFound, Unavailable
from mediagen.core.events import Event, EventType
from mediagen.events.webhooks.outbox import Outbox
from mediagen.events.webhooks.retry_schedule import (
    JITTER,
    MAX_RETRY_AFTER,
    classify_error,
    classify_status,
    decide_next,
)
from mediagen.events.webhooks.secrets import SigningSecrets
from mediagen.events.webhooks.settings import WebhooksSettings
from mediagen.events.webhooks.signing import sign
from mediagen.net.post import post
from mediagen.net.session import Session
from mediagen.net.settings import FetchSettings

log = structlog.get_logger(__name__)

AT_ONCE: Final = 32
AT_ONCE_PER_TARGET: Final = 4
AT_ONCE_TO_SLOW: Final = 16
"""To all targets together whose last answer did not come in time: many of them must not hold up the others."""
MAX_SLOW: Final = 1024
"""Targets that are remembered as slow, the latest."""
LOOK_SECONDS: Final = 60.0
"""How long nothing is looked at when nothing is told; the clock may be set meanwhile."""
STOP_SECONDS: Final = 2.0
"""How long what is on its way may go on at shutdown; the rest is sent again by the next start."""
DATABASE_RETRY_SECONDS: Final = 1.0
COUNT_SECONDS: Final = 5.0
CHEAP_COUNT: Final = 1000
"""Those that wait are counted at each look while they are fewer than this, else so many seconds apart."""


class WebhookSender:
    """Owned by who runs ``run``. ``told`` is a listener of the bus.

    Args:
        render: the body of a snapshot, with links that are made now.
        fetch: where requests may go, which the guarded ``session`` enforces.
        chance: between 0 and 1.
    """

    def __init__(
        self,
        outbox: Outbox,
        session: Session,
        secrets: SigningSecrets,
        render: Callable[[DeliverySnapshot], Awaitable[bytes]],
        settings: WebhooksSettings,
        fetch: FetchSettings,
        *,
        now: Callable[[], datetime] = utc_now,
        chance: Callable[[], float] = random.random,  # noqa: S311 - jitter is no secret
    ) -> None:
        self._outbox = outbox
        self._session = session
        self._secrets = secrets
        self._render = render
        self._settings = settings
        self._fetch = fetch
        self._now = now
        self._chance = chance
        self._news = asyncio.Event()
        self._went_back = timedelta()
        self._pulled = False
        self._on_the_way: dict[str, asyncio.Task[None]] = {}
        self._targets: Counter[str] = Counter()
        self._slow: OrderedDict[str, None] = OrderedDict()
        self._counted_at = 0.0
        self.waiting = 0
        """Deliveries that wait, as of some seconds ago."""
        self.outcomes: Counter[DeliveryStatus] = Counter()
        """Attempts by what followed: ``waiting`` is one that failed and is followed by another."""

    def told(self, event: Event) -> None:
        """Look into the outbox when a task with a webhook has ended."""
        if event.type is EventType.STATUS and event.task.ended and event.task.webhook is not None:
            self.wake()

    def wake(self) -> None:
        """Something may be due now."""
        self._news.set()

    def clock_stepped(self, step: timedelta) -> None:
        """The wall clock was set. When it went back, what waits is due as much earlier: a wait is a duration."""
        if step < timedelta():
            self._went_back += step
            self.wake()

    async def run(self) -> None:
        """Deliver until cancelled; then what is on its way has ``STOP_SECONDS`` to arrive."""
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    self._news.clear()
                    seconds = await self._begin(group)
                    await self._rest(seconds)
            finally:
                if self._on_the_way:
                    await asyncio.wait(set(self._on_the_way.values()), timeout=STOP_SECONDS)
                for task in self._on_the_way.values():
                    task.cancel()

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    async def _begin(self, group: asyncio.TaskGroup) -> float:
        """Send off what is due and has room; gives the seconds until something is worth a look."""
        try:
            await self._follow_the_clock()
            while free := AT_ONCE - len(self._on_the_way):
                deliveries = await self._outbox.due(
                    self._now(), without=self._on_the_way, not_to=self._busy(), limit=free
                )
                if not deliveries:
                    break
                for delivery in deliveries:
                    if self._has_room(delivery.target):
                        self._send_off(group, delivery)
            if self.waiting < CHEAP_COUNT or time.monotonic() - self._counted_at >= COUNT_SECONDS:
                self.waiting, self._counted_at = await self._outbox.waiting(), time.monotonic()
            if len(self._on_the_way) >= AT_ONCE:
                return LOOK_SECONDS  # who comes back wakes us
            due_at = await self._outbox.next_due(without=self._on_the_way, not_to=self._busy())
        except Unavailable:  # it says so itself
            return DATABASE_RETRY_SECONDS
        if due_at is None:
            return LOOK_SECONDS
        return min(LOOK_SECONDS, max(0.0, (due_at - self._now()).total_seconds()))

    async def _follow_the_clock(self) -> None:
        if not self._pulled:  # it may have been set while no server ran
            longest = max(*self._settings.schedule_seconds, MAX_RETRY_AFTER) * (1 + JITTER)
            await self._outbox.pull(self._now(), longest=timedelta(seconds=longest))
            self._pulled = True
        if step := self._went_back:
            await self._outbox.shift(step)
            self._went_back -= step

    def _busy(self) -> Collection[str]:
        return [target for target in {*self._targets, *self._slow} if not self._has_room(target)]

    def _has_room(self, target: str) -> bool:
        if self._targets[target] >= AT_ONCE_PER_TARGET:
            return False
        if target not in self._slow:
            return True
        return sum(count for other, count in self._targets.items() if other in self._slow) < AT_ONCE_TO_SLOW

    def _note_pace(self, target: str, error: str | None) -> None:
        self._slow.pop(target, None)
        if error == "timeout":
            self._slow[target] = None
            if len(self._slow) > MAX_SLOW:
                self._slow.popitem(last=False)

    def _send_off(self, group: asyncio.TaskGroup, delivery: Delivery) -> None:
        self._targets[delivery.target] += 1
        task = self._on_the_way[delivery.id] = group.create_task(self._deliver(delivery))

        def arrived(_: asyncio.Task[None]) -> None:
            del self._on_the_way[delivery.id]
            self._targets[delivery.target] -= 1
            if not self._targets[delivery.target]:
                del self._targets[delivery.target]
            self.wake()

        task.add_done_callback(arrived)

    async def _deliver(self, delivery: Delivery) -> None:
        attempt, retry_after = await self._attempt(delivery)
        self._note_pace(delivery.target, attempt.error)
        status, due_at = decide_next(
            attempt.error,
            delivery.step,
            self._now(),
            schedule=self._settings.schedule_seconds,
            retry_after=retry_after,
            chance=self._chance,
        )
        stands = await self._record(delivery, attempt, status, due_at)
        self.outcomes[stands or status] += 1
        (log.info if attempt.error is None else log.warning)(
            "webhook_attempted",
            delivery_id=delivery.id,
            task_id=delivery.task_id,
            host=urlsplit(delivery.url).hostname,  # the rest of the URL may let somebody in
            status_code=attempt.status_code,
            error=attempt.error,
            milliseconds=attempt.milliseconds,
            attempt=delivery.tries + 1,
            stands=stands,
        )

    async def _attempt(self, delivery: Delivery) -> tuple[DeliveryAttempt, float | None]:
        """What became of one request, and the seconds that the receiver asked for."""
        at, began = self._now(), time.perf_counter()
        status_code: int | None = None
        retry_after: float | None = None
        try:
            body = await self._render(await self._load_snapshot(delivery))
            proof = sign(body, message_id=delivery.id, timestamp=int(at.timestamp()), keys=self._secrets.keys())
            receipt = await post(
                self._session,
                delivery.url,
                body,
                {"Content-Type": "application/json", **proof},
                connect_seconds=self._fetch.connect_seconds,
                seconds=self._settings.timeout_seconds,
            )
            status_code, retry_after = receipt.status, receipt.retry_after
            error = classify_status(receipt.status)
        except MediagenError as exc:
            error = classify_error(exc)
            log.debug("webhook_not_answered", delivery_id=delivery.id, error=exc.detail, context=exc.context)
        except Exception:  # a fault of ours in one delivery must not end the others, nor the server
            error = "internal"
            log.exception("webhook_not_sent", delivery_id=delivery.id)
        milliseconds = round((time.perf_counter() - began) * 1000)
        return DeliveryAttempt(at, milliseconds, status_code, error), retry_after

    async def _load_snapshot(self, delivery: Delivery) -> DeliverySnapshot:
        snapshot = await self._outbox.load_snapshot(delivery)
        if snapshot is None:
            raise NotFound("the delivery is gone")
        return snapshot

    async def _record(
        self, delivery: Delivery, attempt: DeliveryAttempt, status: DeliveryStatus, due_at: datetime | None
    ) -> DeliveryStatus | None:
        """Written down whatever it takes: unwritten, it would be due again at once, without end."""
        while True:
            try:
                return await self._outbox.attempted(delivery, attempt, status, due_at)
            except Unavailable:  # it says so itself
                await asyncio.sleep(DATABASE_RETRY_SECONDS)
