"""Whether the process lives, can take work, and how it is."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Final

import structlog

from mediagen import __version__
from mediagen.core.clock import Clock
from mediagen.core.errors import MediagenError
from mediagen.core.keys import Scope
from mediagen.web.api.routing import Answer, Call, Empty, Reply, route
from mediagen.web.ops.schemas import CheckView, ClockView, Health, LagView, Live, Readiness

CHECK_SECONDS = 5.0
"""How long a check may take, and how long its outcome counts."""

_MINUTE: Final = 60.0
_LOG: Final = structlog.get_logger(__name__)


class LoopLag:
    """How late the event loop wakes a sleeper: the last measurement, and the worst of the last minute."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self.last = 0.0
        self._worst: deque[tuple[float, float]] = deque()  # (when, lag), lags falling from left to right

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(self._interval)
            now = loop.time()
            self.note(now, max(0.0, now - began - self._interval))

    def note(self, now: float, lag: float) -> None:
        """Take a measurement; seconds of the loop's clock, seconds late."""
        self.last = lag
        while self._worst and self._worst[-1][1] <= lag:
            self._worst.pop()
        self._worst.append((now, lag))
        while self._worst[0][0] < now - _MINUTE:
            self._worst.popleft()

    @property
    def worst(self) -> float:
        """Seconds; the largest lag of the last minute."""
        return self._worst[0][1] if self._worst else 0.0


@dataclass(slots=True)
class Check:
    """Something that must work for the server to take work. ``probe`` raises MediagenError when it does not."""

    probe: Callable[[], Awaitable[None]]
    _view: CheckView = field(default_factory=lambda: CheckView(ok=False, detail="not yet checked"))
    _checked_at: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def fresh(self) -> bool:
        """The last outcome still counts."""
        return time.monotonic() - self._checked_at < CHECK_SECONDS

    async def view(self) -> CheckView:
        """The outcome, at most ``CHECK_SECONDS`` old; many callers share one probe."""
        if self.fresh:
            return self._view
        async with self._lock:
            if not self.fresh:
                self._view = await self._probed()
                self._checked_at = time.monotonic()
        return self._view

    @property
    def known(self) -> bool | None:
        """The last outcome, however old; None before the first one."""
        return self._view.ok if self._checked_at > float("-inf") else None

    async def _probed(self) -> CheckView:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self.probe()
        except MediagenError as exc:
            _LOG.warning("check_failed", detail=exc.detail)
            return CheckView(ok=False, detail=exc.detail)
        except TimeoutError:
            return CheckView(ok=False, detail=f"no answer within {CHECK_SECONDS:g} s")
        return CheckView(ok=True)


@dataclass(frozen=True, slots=True)
class HealthGauges:
    """Numbers that the health page shows, read when it is asked for."""

    tasks_live: Callable[[], int]
    tasks_waiting: Callable[[], int]
    feed_readers: Callable[[], int]
    circuits_open: Callable[[], int]


def _not_ready(model: type[Readiness]) -> Reply:
    return Reply(HTTPStatus.SERVICE_UNAVAILABLE, "not ready; `checks` say why", model)


class HealthRoutes:
    """``/livez``, ``/readyz``, ``/healthz``."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        lag: LoopLag,
        gauges: HealthGauges,
        clock: Clock,
        confirm_clock: Callable[[], Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._confirm_clock = confirm_clock
        self._checks = checks
        self._lag = lag
        self._gauges = gauges
        self._began = time.monotonic()
        self._looked = asyncio.Event()
        self._looked.set()
        self.stopping = False

    @route("GET", "/livez", "Check that the process answers", answer=Live, public=True)
    async def live(self, _call: Call[Empty, Empty]) -> Live:
        return Live()

    @route(
        "GET",
        "/readyz",
        "Check whether the server accepts work",
        answer=Readiness,
        also=(_not_ready(Readiness),),
        public=True,
    )
    async def ready(self, _call: Call[Empty, Empty]) -> Answer:
        readiness = await self._readiness()
        return Answer(readiness, status=_status(readiness))

    @route("GET", "/healthz", "Check the server in detail", answer=Health, also=(_not_ready(Health),), public=True)
    async def health(self, _call: Call[Empty, Empty]) -> Answer:
        readiness = await self._readiness()
        health = Health(
            **readiness.model_dump(),
            version=__version__,
            uptime_seconds=round(time.monotonic() - self._began, 1),
            loop_lag=LagView(
                last_milliseconds=round(self._lag.last * 1000, 2), max_milliseconds=round(self._lag.worst * 1000, 2)
            ),
            tasks_live=self._gauges.tasks_live(),
            tasks_waiting=self._gauges.tasks_waiting(),
            feed_readers=self._gauges.feed_readers(),
            circuits_open=self._gauges.circuits_open(),
        )
        return Answer(health, status=_status(readiness))

    @route(
        "POST",
        "/v1/clock/confirm",
        "Confirm that the clock is right, after it was set or after a long stop",
        answer=ClockView,
        needs=Scope.ADMIN,
    )
    async def confirm_clock(self, _call: Call[Empty, Empty]) -> ClockView:
        """Until then, or a day without another step, nothing is purged and what has expired stays so."""
        await self._confirm_clock()
        return ClockView(now=self._clock.now())

    def known(self) -> Mapping[str, bool | None]:
        """The last outcome of each check, without waiting; asks for newer ones, which ``run`` gets."""
        self._looked.set()
        return {name: check.known for name, check in self._checks.items()}

    async def run(self) -> None:
        """Ask the checks at the start and again whenever somebody has looked at ``known``, until cancelled."""
        while True:
            await self._looked.wait()
            self._looked.clear()
            await self._readiness()

    async def _readiness(self) -> Readiness:
        # those that are fresh need no turn of a loop that may be busy
        await asyncio.gather(*(check.view() for check in self._checks.values() if not check.fresh))
        checks = {name: await check.view() for name, check in self._checks.items()}
        checks["running"] = CheckView(ok=not self.stopping, detail="the server is stopping" if self.stopping else None)
        if (doubt := self._clock.doubt()) is not None:  # it takes work all the same
            checks["clock"] = CheckView(ok=True, detail=describe_doubt(doubt, self._clock.believed_in()))
        return Readiness(status="ok" if all(check.ok for check in checks.values()) else "unavailable", checks=checks)


def describe_doubt(doubt: timedelta, believed_in: float) -> str:
    """What is said of a clock that is in doubt."""
    way = "ahead of" if doubt > timedelta() else "behind"
    return (
        f"the clock is {abs(doubt.total_seconds()) / 3600:.1f} h {way} the last time that was recorded: history is not "
        f"purged and what has expired stays so, for {believed_in / 3600:.1f} h yet or until mediagen clock confirm"
    )


def _status(readiness: Readiness) -> int:
    return HTTPStatus.OK if readiness.status == "ok" else HTTPStatus.SERVICE_UNAVAILABLE
