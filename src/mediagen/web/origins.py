"""Who calls, by which name, from which page: proxies, Host, Origin, CORS."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from mediagen.web.problems import Forbidden
from mediagen.web.settings import ServerSettings

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEALTH_PATHS: Final = ("/livez", "/readyz", "/healthz")
WATCHED_PATHS: Final = (*HEALTH_PATHS, "/metrics")
"""What monitors ask every few seconds: not worth a line in the log, and not what callers wait for."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ALLOWED_METHODS: Final = "GET, HEAD, POST, PATCH, PUT, DELETE, OPTIONS"
_ALLOWED_HEADERS: Final = (
    "Authorization, Content-Type, Idempotency-Key, If-Range, Last-Event-ID, Prefer, Range, X-Filename, X-Request-Id"
)
_EXPOSED_HEADERS: Final = (
    "Content-Disposition, Content-Range, ETag, Location, Retry-After, X-RateLimit-Limit-Requests, "
    "X-RateLimit-Remaining-Requests, X-RateLimit-Reset-Requests, X-Request-Id"
)


def _host_name(host: str) -> str:
    """Host without port; IPv6 without brackets; lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def network_of(address: str) -> str:
    """Those who are counted as one: an IPv4 address, the /64 of an IPv6 address (a household has that many)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"


class Origins:
    """What the settings say about names and pages, applied to requests."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._public = urlsplit(settings.public_url)
        self._names = frozenset(settings.allowed_hosts) | (
            {self._public.hostname} if self._public.hostname else frozenset()
        )
        self._pages = frozenset(settings.cors_origins)

    def client(self, request: web.Request) -> str:
        """Address of the caller: the peer, or what a trusted proxy says of it (the last one not a trusted proxy)."""
        peer = request.remote or ""
        if not self.trusts(peer):
            return peer
        for hop in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
            address = hop.strip()
            if not _is_address(address):
                return peer
            if not self.trusts(address):
                return address
            peer = address
        return peer

    def base(self, request: web.Request) -> str:
        """Scheme and host by which this caller reaches us, without a final slash."""
        if self._settings.public_url:
            return self._settings.public_url
        scheme, host = request.scheme, request.host
        if self.trusts(request.remote or ""):
            forwarded = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
            scheme = forwarded if forwarded in {"http", "https"} else scheme
            host = request.headers.get("X-Forwarded-Host", "").partition(",")[0].strip() or host
        return f"{scheme}://{host}"

    def check_host(self, request: web.Request) -> None:
        """Raise Forbidden for a Host that is not ours: what a page gets that had its own name point to us."""
        if request.path.removeprefix(self._settings.base_path) in HEALTH_PATHS:
            return
        name = _host_name(urlsplit(self.base(request)).netloc if self.trusts(request.remote or "") else request.host)
        if name in self._names:
            return
        if not self._settings.allowed_hosts and (
            not self._settings.loopback
            or _is_address(name)
            or name in {"localhost", self._settings.host.lower()}
            or name.endswith(".localhost")
        ):
            return
        raise Forbidden(f"this server does not answer to the name {name[:100]!r}; see server.allowed_hosts")

    def check_page(self, request: web.Request) -> None:
        """Raise Forbidden when a foreign page makes a browser send this (Origin and Sec-Fetch-Site, Fetch standard)."""
        origin = request.headers.get(hdrs.ORIGIN, "").lower()
        if origin in self._pages:
            return
        site = request.headers.get("Sec-Fetch-Site", "").lower()
        if site in {"same-origin", "none"} or (not site and not origin):
            return
        if not site and urlsplit(origin).netloc in {request.host.lower(), urlsplit(self.base(request)).netloc.lower()}:
            return
        raise Forbidden("this call comes from a page of another origin; see server.cors_origins")

    def add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Let the pages of the listed origins read the answer."""
        if not self._pages:
            return
        response.headers.add(hdrs.VARY, "Origin")
        origin = request.headers.get(hdrs.ORIGIN, "").lower()
        if origin in self._pages:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = request.headers[hdrs.ORIGIN]
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED_HEADERS

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Guard every request; answer CORS preflights."""
        self.check_host(request)
        if (
            request.method == "OPTIONS"
            and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
            and request.headers.get(hdrs.ORIGIN, "").lower() in self._pages
        ):
            return web.Response(
                status=204,
                headers={
                    hdrs.ACCESS_CONTROL_ALLOW_METHODS: _ALLOWED_METHODS,
                    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: _ALLOWED_HEADERS,
                    hdrs.ACCESS_CONTROL_MAX_AGE: "600",
                },
            )
        upgrade = request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"
        if upgrade or request.method not in _SAFE:
            self.check_page(request)
        return await handler(request)

    def trusts(self, address: str) -> bool:
        """Whether this is the address of a proxy that we believe."""
        if not self._settings.trusted_proxies:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._settings.trusted_proxies)
