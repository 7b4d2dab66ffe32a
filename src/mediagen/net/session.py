"""The guarded outgoing session: the only place that opens one.

The check sits where a socket is made. It is asked for every attempt to connect, with the address that will be connected
to: literals that no resolver sees, each DNS answer, each redirect hop. What the policy refuses is an ``OSError``, so
that the next answer of a name is tried.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from mediagen import __version__
from mediagen.net.connection_errors import AddressForbidden, NameNotFound
from mediagen.net.http1.dialer import AddressInfo, Dialer, MakeSocket, default_tls
from mediagen.net.policy import AddressPolicy
from mediagen.net.settings import FetchSettings

_DNS_THREADS: Final = 4
_DNS_SECONDS: Final = 5.0
_MAX_ANSWERS: Final = 16
COMMON_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": f"mediagen/{__version__}"}
"""Of every request."""

Lookup: TypeAlias = Callable[[str, int, int], list[tuple[Any, Any, int, str, Any]]]
"""As ``socket.getaddrinfo(host, port, family)``; called in a thread."""


@dataclass(frozen=True, slots=True)
class Session:
    """The two ways out, through one policy: ``dialer`` for what is downloaded, ``client`` for webhooks."""

    dialer: Dialer
    client: aiohttp.ClientSession


class PolicyResolver(AbstractResolver):
    """Names to allowed addresses, in a small pool of its own: slow look-ups must not hold up file writes."""

    def __init__(self, policy: AddressPolicy, lookup: Lookup) -> None:
        self._policy = policy
        self._lookup = lookup
        self._pool = ThreadPoolExecutor(_DNS_THREADS, thread_name_prefix="dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_DNS_SECONDS):
                answers = await loop.run_in_executor(
                    self._pool, self._lookup, host, port, family if family else socket.AF_UNSPEC
                )
        except TimeoutError:
            raise NameNotFound(f"its name was not resolved within {_DNS_SECONDS:g} s") from None
        except UnicodeError:
            raise NameNotFound("its name is none that DNS can have") from None
        if not answers:
            raise NameNotFound("its name has no address")
        allowed = [
            ResolveResult(
                hostname=host,
                host=sockaddr[0],
                port=port,
                family=answer_family,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for answer_family, _, proto, _, sockaddr in answers[:_MAX_ANSWERS]
            if self._policy.allows(sockaddr[0], port)
        ]
        if not allowed:
            raise AddressForbidden
        return allowed

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def system_lookup(host: str, port: int, family: int) -> list[tuple[Any, Any, int, str, Any]]:
    """The answers of the system's resolver (getaddrinfo(3)); blocks."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)


def policy_from_settings(settings: FetchSettings) -> AddressPolicy:
    """What the session enforces, for those who want to know beforehand."""
    return AddressPolicy(allow=settings.allow_cidrs, deny=settings.deny_cidrs, ports=settings.ports)


@asynccontextmanager
async def guarded_session(
    settings: FetchSettings, *, lookup: Lookup = system_lookup, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Session]:
    """A session for URLs that users or providers name.

    No environment proxies, no cookies, no redirects by itself (the caller checks each hop), no decompression, no total
    time limit of its own (downloads have several of theirs).

    Args:
        tls: whom to trust; None: as ``dialer.default_tls``.
    """
    policy, tls = policy_from_settings(settings), tls or default_tls()
    async with _resolving(policy, lookup) as resolver:
        make_socket = _guarded(policy)
        connector = aiohttp.TCPConnector(
            resolver=resolver, socket_factory=make_socket, ssl=tls, limit=0, limit_per_host=0, ttl_dns_cache=10
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_seconds),
            headers=COMMON_HEADERS,
        ) as client:
            yield Session(Dialer(resolver, make_socket, tls=tls, seconds=settings.connect_seconds), client)


@asynccontextmanager
async def guarded_dialer(
    settings: FetchSettings, *, lookup: Lookup = system_lookup, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Dialer]:
    """The ``dialer`` of a session alone."""
    policy = policy_from_settings(settings)
    async with _resolving(policy, lookup) as resolver:
        yield Dialer(resolver, _guarded(policy), tls=tls or default_tls(), seconds=settings.connect_seconds)


@asynccontextmanager
async def _resolving(policy: AddressPolicy, lookup: Lookup) -> AsyncIterator[PolicyResolver]:
    resolver = PolicyResolver(policy, lookup)
    try:
        yield resolver
    finally:
        await resolver.close()


def _guarded(policy: AddressPolicy) -> MakeSocket:
    def make_socket(info: AddressInfo) -> socket.socket:
        family, kind, proto, _, address = info
        if not policy.allows(str(address[0]), int(address[1])):
            raise AddressForbidden
        sock = socket.socket(family, kind, proto)
        sock.setblocking(False)
        return sock

    return make_socket
