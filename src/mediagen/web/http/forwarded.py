"""Who calls and by which name, as trusted proxies say it: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, TypeAlias

from aiohttp import web

from mediagen.web.settings import ServerSettings

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""What X-Forwarded-Proto can say, and what it means for a link; some proxies tell WebSockets apart."""
_HOP: Final = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d+)?|(?P<v4>[\d.]+):\d+")
"""An address with a port, or in brackets, as some proxies write them in X-Forwarded-For."""


def _address(text: str) -> IPAddress | None:
    """The address that ``text`` is, an IPv4 address mapped into IPv6 as IPv4; None: it is none."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def is_address(name: str) -> bool:
    """Whether ``name`` is an IP address."""
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


class Forwarded:
    """The caller's address and the name by which it reaches us: the connection's, or what trusted proxies say."""

    def __init__(self, settings: ServerSettings) -> None:
        self._public_url = settings.public_url
        self._proxies = settings.trusted_proxies

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
        if self._public_url:
            return self._public_url
        return "://".join(self.scheme_and_host(request))

    def scheme_and_host(self, request: web.Request) -> tuple[str, str]:
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

    def trusts(self, address: str) -> bool:
        """Whether this is the address of a proxy that we believe."""
        if not self._proxies:
            return False
        parsed = _address(address)
        return parsed is not None and any(parsed in network for network in self._proxies)


def _last(request: web.BaseRequest, name: str) -> str:
    """The last element of a list field; empty: there is none."""
    elements = _elements(request, name)
    return elements[-1] if elements else ""


FORWARDED: Final = web.AppKey("forwarded", Forwarded)
