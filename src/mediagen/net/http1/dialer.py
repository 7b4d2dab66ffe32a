"""Connections of our own making: a name looked up, each address checked where its socket is made, TCP, and TLS.

Nothing here keeps a connection: who asks for one owns it until it is closed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final, TypeAlias

import aiohappyeyeballs
from aiohttp.abc import AbstractResolver
from yarl import URL

from mediagen.net.http1.raw_socket import ByteSocket
from mediagen.net.http1.tls_socket import TlsSocket

_HEAD_START: Final = 0.25
"""Seconds that an address has before the next one is tried beside it (RFC 8305 section 5)."""
_REMEMBERED: Final = 1024
_REMEMBERED_SECONDS: Final = 10.0

AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
"""As ``socket.getaddrinfo`` gives it."""
MakeSocket: TypeAlias = Callable[[AddressInfo], socket.socket]
"""A non-blocking socket for an address that may be reached; OSError for any other."""


def default_tls() -> ssl.SSLContext:
    """Certificates are verified against the system's authorities (or ``SSL_CERT_FILE``), and must name the host."""
    return configure_for_http1(ssl.create_default_context())


def configure_for_http1(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context, for connections made here: HTTP/1.1, and no renegotiation, for which a write would wait."""
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


class Dialer:
    """Makes connections to where URLs lead."""

    def __init__(
        self, resolver: AbstractResolver, make_socket: MakeSocket, *, tls: ssl.SSLContext, seconds: float
    ) -> None:
        self.seconds = seconds
        """Limit for making a connection."""
        self._resolver = resolver
        self._make_socket = make_socket
        self._tls = tls
        self._known: OrderedDict[tuple[str, int], tuple[float, list[AddressInfo]]] = OrderedDict()

    async def connect(self, url: URL) -> ByteSocket:
        """A connection to the host of ``url``; over https its handshake is done.

        Raises:
            TimeoutError: not within the limit. It has no ``errno``; that of an address that does not answer has one.
            OSError: none could be made; ``ssl.SSLError`` is one.
        """
        host, port = url.raw_host, url.port
        if not host or not port:
            raise ValueError("a URL without a host")
        async with asyncio.timeout(self.seconds):
            return await self._connect(host, port, secured=url.scheme == "https")

    async def _connect(self, host: str, port: int, *, secured: bool) -> ByteSocket:
        sock: socket.socket = await aiohappyeyeballs.start_connection(
            await self._addresses(host, port), happy_eyeballs_delay=_HEAD_START, socket_factory=self._make_socket
        )
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return await self._secured(sock, host) if secured else sock
        except BaseException:
            sock.close()
            raise

    async def _addresses(self, host: str, port: int) -> list[AddressInfo]:
        if (literal := _literal(host, port)) is not None:
            return [literal]
        key, now = (host.lower(), port), asyncio.get_running_loop().time()
        known = self._known.get(key)
        if known is not None and known[0] > now:
            return known[1]
        found: list[AddressInfo] = [
            (answer["family"], socket.SOCK_STREAM, socket.IPPROTO_TCP, "", _socket_address(answer["host"], port))
            for answer in await self._resolver.resolve(host, port, socket.AF_UNSPEC)
        ]
        self._known[key] = now + _REMEMBERED_SECONDS, found
        self._known.move_to_end(key)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    async def _secured(self, sock: socket.socket, host: str) -> TlsSocket:
        """TLS over ``sock``, which belongs to the result."""
        secured = TlsSocket(sock, self._tls, host.removesuffix("."))
        await secured.do_handshake()
        return secured


def _literal(host: str, port: int) -> AddressInfo | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", _socket_address(str(address), port)


def _socket_address(host: str, port: int) -> tuple[Any, ...]:
    return (host, port) if ":" not in host else (host, port, 0, 0)
