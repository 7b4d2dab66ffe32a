"""Who calls, by which name, from which page: proxies, Host, Origin, CORS."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from mediagen.web.http.problems import Forbidden
from mediagen.web.settings import ServerSettings

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

HEALTH_PATHS: Final = ("/livez", "/readyz", "/healthz")
WATCHED_PATHS: Final = (*HEALTH_PATHS, "/metrics")
"""What monitors ask every few seconds: not worth a line in the log, and not what callers wait for."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ALLOWED_METHODS: Final = "GET, HEAD, POST, PATCH, PUT, DELETE, OPTIONS"
_ALLOWED_HEADERS: Final = "Authorization, Content-Type"
"""Said to a preflight that names no header; one that names some is allowed those."""
_HEADER_NAMES: Final = re.compile(r"[\w!#$%&'*+.^`|~, \t-]{1,4096}", re.ASCII)
EXPOSED_HEADERS: Final = (
    "Accept-Ranges",
    "Allow",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Location",
    "openai-poll-after-ms",
    "Retry-After",
    "WWW-Authenticate",
    "x-mediagen-task",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-request-id",
    "x-should-retry",
)
"""What pages of the listed origins may read of an answer, beside what Fetch lets every page read."""
_EXPOSED: Final = ", ".join(EXPOSED_HEADERS)


_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""What X-Forwarded-Proto can say, and what it means for a link; some proxies tell WebSockets apart."""
_HOST: Final = re.compile(r"(?:\[[0-9a-f:.]+\]|[\w.\-]+)(?::[0-9]{1,5})?", re.IGNORECASE)
"""A name or address with or without a port (RFC 3986 section 3.2.2, without the characters that no host name has)."""
_HOP: Final = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d+)?|(?P<v4>[\d.]+):\d+")
"""An address with a port, or in brackets, as some proxies write them in X-Forwarded-For."""


def _host_name(host: str) -> str:
    """Host without port; IPv6 without brackets; lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _address(text: str) -> IPAddress | None:
    """The address that ``text`` is, an IPv4 address mapped into IPv6 as IPv4; None: it is none."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def _is_address(name: str) -> bool:
    return _address(name) is not None


def _hop(text: str) -> str | None:
    """The address in an element of X-Forwarded-For; None: it is none ("unknown", a made-up word)."""
    found = _HOP.fullmatch(text)
    address = _address((found["v6"] or found["v4"] or "") if found else text)
    return None if address is None else str(address)


def _elements(request: web.BaseRequest, name: str) -> list[str]:
    """The elements of a list field over all of its lines (RFC 9110 section 5.3): a proxy may add a line of its own."""
    return [element.strip() for line in request.headers.getall(name, ()) for element in line.split(",")]


def network_of(address: str) -> str:
    """Those who are counted as one: an IPv4 address, the /64 of an IPv6 address (a household has that many)."""
    parsed = _address(address)
    if parsed is None:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
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
        """Address of the caller: the peer, or what trusted proxies say of it.

        Each proxy adds the address that it was called from at the end of X-Forwarded-For. So the list is read from its
        end, as long as the address that named the next one is that of a trusted proxy; what stands before is the
        caller's own invention.
        """
        peer = request.remote or ""
        if not self.trusts(peer):
            return peer
        for element in reversed(_elements(request, "X-Forwarded-For")):
            address = _hop(element)
            if address is None:
                return peer
            if not self.trusts(address):
                return address
            peer = address
        return peer

    def base(self, request: web.Request) -> str:
        """Scheme and host by which this caller reaches us, without a final slash."""
        if self._settings.public_url:
            return self._settings.public_url
        return "://".join(self._named(request))

    def _named(self, request: web.Request) -> tuple[str, str]:
        """Scheme and host of the request.

        Of a trusted proxy the last X-Forwarded-Proto and X-Forwarded-Host are believed, which it has set or added
        itself; what stands before them can be the caller's own.
        """
        scheme, host = request.scheme, request.host
        if self.trusts(request.remote or ""):
            said = _last(request, "X-Forwarded-Proto").lower()
            scheme = _SCHEMES.get(said, scheme)
            host = _last(request, "X-Forwarded-Host") or host
        return scheme, host

    def check_host(self, request: web.Request) -> None:
        """Raise Forbidden for a Host that is not ours: what a page gets that had its own name point to us."""
        if request.path.removeprefix(self._settings.base_path) in HEALTH_PATHS:
            return
        _, host = self._named(request)
        name, sound = _host_name(host), _HOST.fullmatch(host) is not None
        if sound and name in self._names:
            return
        if (
            sound
            and not self._settings.allowed_hosts
            and (
                not self._settings.loopback
                or (self._settings.public_url and self.trusts(request.remote or ""))
                or _is_address(name)
                or name in {"localhost", self._settings.host.lower()}
                or name.endswith(".localhost")
            )
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
        ours = {request.host.lower(), self.base(request).partition("://")[2].lower()}
        if not site and origin.partition("://")[2] in ours:  # not parsed: a page's origin can be no URL at all
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
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Guard every request; answer CORS preflights."""
        self.check_host(request)
        if (
            request.method == "OPTIONS"
            and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
            and request.headers.get(hdrs.ORIGIN, "").lower() in self._pages
        ):
            # a listed page may call all of this API, and headers alone open nothing: clients send many of their own
            asked = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "").strip()
            return web.Response(
                status=204,
                headers={
                    hdrs.ACCESS_CONTROL_ALLOW_METHODS: _ALLOWED_METHODS,
                    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: asked if _HEADER_NAMES.fullmatch(asked) else _ALLOWED_HEADERS,
                    hdrs.ACCESS_CONTROL_MAX_AGE: "600",
                    hdrs.VARY: "Access-Control-Request-Headers",
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
        parsed = _address(address)
        return parsed is not None and any(parsed in network for network in self._settings.trusted_proxies)


def _last(request: web.BaseRequest, name: str) -> str:
    """The last element of a list field; empty: there is none."""
    elements = _elements(request, name)
    return elements[-1] if elements else ""
