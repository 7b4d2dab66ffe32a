"""Which URLs and addresses may be reached. Pure, so that it can be tested with thousands of spellings.

The text of a URL is checked for what parsers disagree about; the address is checked where the socket is made
(``net.session``), for literals, DNS answers and redirects alike. Allow-lists, not deny-lists: an address outside
what is known to be public unicast is refused.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from yarl import URL

from mediagen.core.errors import InvalidRequest, UrlNotAllowed
from mediagen.net import urls
from mediagen.net.connection_errors import FORBIDDEN

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

MAX_URL: Final = 4096
_MAX_LABEL: Final = 63
"""Characters between two dots of a name (RFC 1035 section 2.3.4)."""
_FORBIDDEN_TEXT: Final = re.compile(r"[\x00-\x1f\x7f\\]|^ | $")
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",  # a cloud's host agent on a public-looking address
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4: embeds any IPv4 address
        "3fff::/20",
    )
)
"""Not public unicast, by the IANA special-purpose registries; within IPv6 only 2000::/3 is considered at all."""


def check_text(text: str) -> URL:
    """The URL, if its text leaves nothing to the taste of parsers.

    It stays as it is spelled, since some links are signed over their very spelling. Only characters that may not stand
    in a URL become escapes, and ``.`` and ``..`` in its path are resolved.

    Raises:
        InvalidRequest: not an absolute http(s) URL.
        UrlNotAllowed: spelled in a way that parsers read differently, or with credentials in it.
    """
    if len(text) > MAX_URL:
        raise InvalidRequest(f"the URL is longer than {MAX_URL} characters")
    if _FORBIDDEN_TEXT.search(text):
        raise UrlNotAllowed("the URL contains control characters or backslashes, or spaces around it")
    scheme, separator, rest = text.partition("://")
    if scheme.lower() not in ("http", "https") or not separator:
        raise UrlNotAllowed("only http:// and https:// URLs can be fetched")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise UrlNotAllowed("the URL contains a user name or password")
    if "%" in authority:
        raise UrlNotAllowed("the URL's host contains an escape or a zone")
    if " " in authority:
        raise UrlNotAllowed("the URL's host contains a space")
    digits = authority.rpartition("]")[2].partition(":")[2]
    if digits and not (digits.isascii() and digits.isdigit()):
        raise InvalidRequest("the URL's port is not a number")
    try:
        origin = URL(f"{scheme}://{authority}/")
        host, port = origin.raw_host, origin.port
        spelled = urls.escape(urls.resolve_dots(rest[len(authority) :]))
    except ValueError as exc:
        raise InvalidRequest(f"not a URL: {exc}") from None
    if not host or port is None or not 0 < port < 65536:
        raise InvalidRequest("the URL has no host, or a port outside 1 to 65535")
    if ":" not in host and not all(0 < len(label) <= _MAX_LABEL for label in host.removesuffix(".").split(".")):
        raise InvalidRequest("the URL's host is not a valid name")
    whole = f"{scheme.lower()}://{authority if authority.isascii() else origin.raw_authority}{spelled}"
    if len(whole) > MAX_URL:
        raise InvalidRequest(f"the URL is longer than {MAX_URL} characters")
    return URL(whole, encoded=True)


class AddressPolicy:
    """Decides by address and port: public unicast on the allowed ports, plus what the operator lists."""

    def __init__(self, *, allow: Sequence[Network], deny: Sequence[Network], ports: Sequence[int]) -> None:
        self._allow = tuple(allow)
        self._deny = tuple(deny)
        self._ports = frozenset(ports)

    def check(self, text: str) -> URL:
        """The URL, as far as it can be judged before its name is looked up; each request to it is judged again.

        Raises:
            InvalidRequest, UrlNotAllowed: as ``check_text``, or it can only lead to an address that is not allowed.
        """
        url = check_text(text)
        host, port = (url.raw_host or "").removesuffix("."), url.port or 0
        if host.lower() == "localhost" or host.lower().endswith(".localhost"):  # RFC 6761 section 6.3
            passes = self.allows("127.0.0.1", port) or self.allows("::1", port)
        elif (literal := _literal(host)) is not None:
            passes = self.allows(literal, port)
        else:
            passes = port in self._ports or bool(self._allow)
        if not passes:
            raise UrlNotAllowed(FORBIDDEN)
        return url

    def allows(self, host: str, port: int) -> bool:
        """Whether a socket may be connected to this address; False for what is not an address at all."""
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if _inside(address, self._deny):
            return False
        if _inside(address, self._allow):
            return True
        return port in self._ports and _is_public(address)


def _literal(host: str) -> str | None:
    """The address that a host spells out, in the older ways of inet_aton(3) too; None: it is a name."""
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _inside(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _PUBLIC_V6:
        return False
    return not _inside(address, _NOT_PUBLIC)
