"""What the S3 library's HTTP client leaves to chance: how long a body waits to be asked for, and where it may be sent.

``Expect: 100-continue`` saves the source's bytes when a store refuses a body by its head alone. A store or a proxy that
does not know it says nothing, and the library waits for ever, or it answers 417 (RFC 9110 sections 10.1.1 and 15.5.18).

The library below follows redirects by itself, to any host, and with a signature that no longer fits. Here a request is
sent on within its own origin alone, signed anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urljoin, urlsplit

import aiohttp
import structlog
from aiobotocore.httpsession import AIOHTTPSession

log = structlog.get_logger()

CONTINUE_SECONDS: Final = 1.0
"""How long a body waits for ``100 Continue``."""
REMEMBERED_SECONDS: Final = 600.0
"""How long a store that did not say it is not asked again."""


class Expectations:
    """Whether the store is asked for ``100 Continue``: not for a while after it showed that it does not know it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._not_before = float("-inf")

    def asks(self) -> bool:
        return self._clock() >= self._not_before

    def disappointed(self, how: str) -> None:
        """The store did not say it within a second, or refused to."""
        if self.asks():
            log.info("store_not_asked_for_continue", reason=how, seconds=REMEMBERED_SECONDS)
        self._not_before = self._clock() + REMEMBERED_SECONDS

    async def wait_for(self, continued: asyncio.Event) -> None:
        """Return once the store has said it, or a second later."""
        try:
            async with asyncio.timeout(CONTINUE_SECONDS):
                await continued.wait()
        except TimeoutError:
            self.disappointed("no answer")


@dataclass(slots=True)
class Route:
    """Where one request goes. ``url``: where it went last; ``target``: where it is to go instead."""

    url: str = ""
    target: str | None = None

    def follow(self, location: str) -> bool:
        """Go to where an answer sends this request. False, and nothing changes, when that is another origin."""
        target = urljoin(self.url, location)
        if urlsplit(target)[:2] != urlsplit(self.url)[:2]:
            return False
        self.target = target
        return True


_ROUTE: ContextVar[Route | None] = ContextVar("s3_route", default=None)


@contextmanager
def routed(route: Route) -> Iterator[None]:
    """The request that is made inside takes this route."""
    token = _ROUTE.set(route)
    try:
        yield
    finally:
        _ROUTE.reset(token)


class _Events(Protocol):
    def register(self, event_name: str, handler: Callable[..., None]) -> None: ...
    def register_last(self, event_name: str, handler: Callable[..., None]) -> None: ...


def watch(events: _Events, expectations: Expectations) -> None:
    """Have the library's client ask, and go, as ``expectations`` and ``routed`` say."""

    def before_call(params: dict[str, Any], **_: Any) -> None:
        if not expectations.asks():
            params["headers"].pop("Expect", None)

    def before_sign(request: Any, operation_name: str, **_: Any) -> None:
        route = _ROUTE.get()
        if route is not None and operation_name != "HeadBucket":  # which the library asks by itself, inside a call
            request.url = route.url = route.target or request.url

    events.register_last("before-call.s3", before_call)
    events.register("before-sign.s3", before_sign)


def session_class(expectations: Expectations) -> type[AIOHTTPSession]:
    """The library's HTTP session, with bounded waits and without redirects."""

    class Request(aiohttp.ClientRequest):
        async def send(self, conn: Any) -> aiohttp.ClientResponse:
            response = await super().send(conn)
            asked = self._continue
            if asked is not None and not asked.done():

                def go_on() -> None:
                    if not asked.done() and response.version is None:
                        expectations.disappointed("no answer")
                        asked.set_result(True)

                timer = self.loop.call_later(CONTINUE_SECONDS, go_on)
                asked.add_done_callback(lambda _: timer.cancel())
            return response

    class Direct:
        def __init__(self, session: aiohttp.ClientSession) -> None:
            self._session = session

        def request(self, method: str, **options: Any) -> Any:
            return self._session.request(method, allow_redirects=False, **options)

    class Session(AIOHTTPSession):  # type: ignore[misc] # its library ships no types
        async def _get_session(self, proxy_url: str | None) -> Direct:
            session = await super()._get_session(proxy_url)
            session._request_class = Request  # noqa: SLF001 - the library below passes none on
            return Direct(session)

    return Session
