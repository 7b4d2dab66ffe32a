"""Requests from foreign names and foreign pages are refused; pages of listed origins may read answers (CORS)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from mediagen.web.http.forwarded import Forwarded, is_address
from mediagen.web.http.problems import Forbidden
from mediagen.web.middleware.probes import HEALTH_PATHS
from mediagen.web.settings import ServerSettings

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

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
_HOST: Final = re.compile(r"(?:\[[0-9a-f:.]+\]|[\w.\-]+)(?::[0-9]{1,5})?", re.IGNORECASE)
"""A name or address with or without a port (RFC 3986 section 3.2.2, without the characters that no host name has)."""


def _host_name(host: str) -> str:
    """Host without port; IPv6 without brackets; lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


class OriginChecks:
    """What the settings say about names and pages, applied to requests."""

    def __init__(self, settings: ServerSettings, forwarded: Forwarded) -> None:
        self._settings = settings
        self._forwarded = forwarded
        public = urlsplit(settings.public_url).hostname
        self._names = frozenset(settings.allowed_hosts) | ({public} if public else frozenset())
        self._pages = frozenset(settings.cors_origins)

    def check_host(self, request: web.Request) -> None:
        """Raise Forbidden for a Host that is not ours: what a page gets that had its own name point to us."""
        if request.path.removeprefix(self._settings.base_path) in HEALTH_PATHS:
            return
        _, host = self._forwarded.scheme_and_host(request)
        name, sound = _host_name(host), _HOST.fullmatch(host) is not None
        if sound and name in self._names:
            return
        if (
            sound
            and not self._settings.allowed_hosts
            and (
                not self._settings.loopback
                or (self._settings.public_url and self._forwarded.trusts(request.remote or ""))
                or is_address(name)
                or name in {"localhost", self._settings.host.lower()}
                or name.endswith(".localhost")
            )
        ):
            return
        raise Forbidden(f"this server does not serve the host name {name[:100]!r}; see server.allowed_hosts")

    def check_page(self, request: web.Request) -> None:
        """Raise Forbidden when a foreign page makes a browser send this (Origin and Sec-Fetch-Site, Fetch standard)."""
        origin = request.headers.get(hdrs.ORIGIN, "").lower()
        if origin in self._pages:
            return
        site = request.headers.get("Sec-Fetch-Site", "").lower()
        if site in {"same-origin", "none"} or (not site and not origin):
            return
        ours = {request.host.lower(), self._forwarded.base(request).partition("://")[2].lower()}
        if not site and origin.partition("://")[2] in ours:  # not parsed: a page's origin can be no URL at all
            return
        raise Forbidden("this call comes from a page of an origin that is not allowed; see server.cors_origins")

    async def add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
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
