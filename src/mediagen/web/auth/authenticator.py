"""Who may come in: keys of the ring, the configured one, tickets; and what becomes of requests whose key ends."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final, Literal, Protocol

import structlog
from aiohttp import hdrs, web

from mediagen.core.errors import RateLimited, Unauthorized
from mediagen.core.keys import ANYBODY, Caller, Scope
from mediagen.web.auth.keyring import Keyring
from mediagen.web.auth.tickets import Tickets
from mediagen.web.http.forwarded import Forwarded, network_of
from mediagen.web.http.problems import Forbidden
from mediagen.web.middleware.rate_limit import Buckets, Rates


class Ending:
    """How a request is cut off when its key ends. Its handler may put a politer way in the place of the usual one."""

    def __init__(self, cut: Callable[[], None]) -> None:
        self.cut = cut


ENDING: Final = web.RequestKey("ending", Ending)
_TICKET: Final = web.RequestKey("ticket", str)
"""That by which a stream was opened."""
FAILURES_PER_MINUTE: Final = 20
"""Wrong keys that one address may send before it has to wait."""

_LOG: Final = structlog.get_logger("mediagen.web")
_OPERATOR: Final = Caller(None, frozenset({Scope.ADMIN}))


class Protected(Protocol):
    """What a route says of who may call it."""

    @property
    def scope(self) -> Scope | None:
        """What a caller must be allowed; None: nothing."""

    @property
    def ticket(self) -> Literal["once", "stream"] | None:
        """Whether a ticket in the query stands in for a key: used up at once, or kept for the stream that it opened."""


class Authenticator:
    """Lets callers in. Fits ``routing.Admission``.

    Args:
        required: whether anybody needs a key; when not, keys are not even looked at.
        admin_key: the key of the configuration; empty: there is none.
        operator_key: the key of this start, which those can read who can read the data directory.
    """

    def __init__(
        self,
        keyring: Keyring,
        tickets: Tickets,
        forwarded: Forwarded,
        rates: Rates,
        *,
        required: bool,
        admin_key: str,
        operator_key: str,
    ) -> None:
        self._keyring = keyring
        self._tickets = tickets
        self._forwarded = forwarded
        self._rates = rates
        self.required = required
        self._admin_key = admin_key.encode()
        self._operator_key = operator_key.encode()
        self._failures = Buckets(FAILURES_PER_MINUTE)

    def admit(self, request: web.Request, route: Protected) -> Caller:
        """Who calls.

        Raises:
            Unauthorized: no key, or one that opens nothing.
            Forbidden: the key does not allow this call.
            RateLimited: too many calls with this key, or too many wrong keys from there.
        """
        scope = route.scope
        if scope is None or not self.required:
            return ANYBODY
        caller = self._caller(request, route)
        if not caller.may(scope):
            challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
            raise Forbidden(f"this key lacks the scope {scope}", headers={hdrs.WWW_AUTHENTICATE: challenge})
        if caller.key_id is not None:
            self._rates.check_key(request, caller.key_id)
            structlog.contextvars.bind_contextvars(key_id=caller.key_id)
        return caller

    @contextmanager
    def holding(self, request: web.Request, caller: Caller) -> Iterator[None]:
        """Inside, the request is cut off when its caller's key ends."""
        ticket = request.get(_TICKET)
        with nullcontext() if ticket is None else self._tickets.reading(ticket), self._cut_off(request, caller):
            yield

    @contextmanager
    def _cut_off(self, request: web.Request, caller: Caller) -> Iterator[None]:
        if caller.key_id is None:
            yield
            return

        def abort() -> None:
            if request.transport is not None:
                request.transport.abort()

        ending = request[ENDING] = Ending(abort)
        with self._keyring.holding(caller.key_id, lambda: ending.cut()):
            yield

    def _caller(self, request: web.Request, route: Protected) -> Caller:
        ticket = request.query.get("ticket") if route.ticket else None
        text = _bearer(request)
        if text is None and ticket is None:
            raise _challenged("send your key: Authorization: Bearer mg_…", "")
        if text is None and ticket is not None:
            caller = self._of_ticket(ticket, request, route)
        else:
            caller = self._keyring.caller(text or "")
        if caller is not None:
            return caller
        # what has no 256 random bits could be guessed: from an address that guesses it is not even looked at
        address = self._forwarded.client(request)
        source = network_of(address)
        wait = self._failures.wait(source)
        if wait:
            raise RateLimited("too many wrong keys from this address", retry_after=wait)
        if text is not None and self._is_configured(text):
            return _OPERATOR
        self._failures.take(source)
        _LOG.warning("key_refused", client=address)
        what = "ticket" if text is None else "key"
        raise _challenged(f"this {what} opens nothing: unknown, expired or revoked", ' error="invalid_token"')

    def _of_ticket(self, ticket: str, request: web.Request, route: Protected) -> Caller | None:
        if route.ticket == "stream":
            request[_TICKET] = ticket
            caller = self._tickets.take_for(request.path, ticket)
        else:
            caller = self._tickets.take(ticket)
        if caller is not None and caller.key_id is not None and not self._keyring.usable(caller.key_id):
            return None
        return caller

    def _is_configured(self, text: str) -> bool:
        given = text.encode("utf-8", "surrogateescape")
        admin = bool(self._admin_key) and hmac.compare_digest(given, self._admin_key)
        return hmac.compare_digest(given, self._operator_key) or admin


def _bearer(request: web.Request) -> str | None:
    """The key of the request (RFC 6750 section 2.1); without one, what Azure's clients send in ``api-key``."""
    scheme, _, text = request.headers.get(hdrs.AUTHORIZATION, "").strip().partition(" ")
    if scheme.lower() == "bearer" and text.strip():
        return text.strip()
    return request.headers.get("api-key", "").strip() or None


def _challenged(detail: str, error: str) -> Unauthorized:
    return Unauthorized(detail, headers={hdrs.WWW_AUTHENTICATE: f"Bearer{error}"})
