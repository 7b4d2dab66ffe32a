"""How requests of the S3 library leave over connections of our own: at its event ``before-send``.

A handler of that event may answer in place of the library's own client. The library makes and signs the request and
reads what the answer says. Behind a proxy of the environment the library sends by itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from aiobotocore.awsrequest import AioAWSResponse
from aiohttp.resolver import ThreadedResolver
from botocore.awsrequest import AWSPreparedRequest
from botocore.httpsession import get_cert_path
from botocore.session import Session
from botocore.utils import get_environ_proxies
from multidict import CIMultiDict
from yarl import URL

from mediagen.net.http1.dialer import AddressInfo, Dialer, configure_for_http1
from mediagen.net.http1.raw_socket import ByteSocket


class StoreDialer:
    """Makes connections to the store.

    Args:
        ca_file: whom to trust over TLS; empty: whom the library trusts.
        seconds: limit for a connection.
    """

    def __init__(self, *, ca_file: str, seconds: float) -> None:
        self._ca_file = ca_file
        self._seconds = seconds
        self._dialer: Dialer | None = None
        self._proxied: dict[URL, bool] = {}

    def behind_proxy(self, url: URL) -> bool:
        """Whether the environment names a proxy for ``url``; looked up once for each origin, as the library does."""
        origin = url.origin()
        if origin not in self._proxied:
            self._proxied[origin] = bool(get_environ_proxies(str(origin)).get(url.scheme))
        return self._proxied[origin]

    async def connect(self, url: URL) -> ByteSocket:
        """As ``Dialer.connect``."""
        if self._dialer is None:
            tls = await asyncio.to_thread(_tls_context, self._ca_file)
            self._dialer = Dialer(ThreadedResolver(), _make_socket, tls=tls, seconds=self._seconds)
        return await self._dialer.connect(url)


def copy_headers(request: AWSPreparedRequest) -> CIMultiDict[str]:
    headers = CIMultiDict((name, _text(value)) for name, value in request.headers.items())
    headers["Accept-Encoding"] = "identity"
    return headers


def make_response(request: AWSPreparedRequest, status: int, headers: Mapping[str, str], body: Any) -> AioAWSResponse:
    """An answer as the library wants it. ``body``: with ``read`` and ``close``."""
    return AioAWSResponse(request.url, status, {name.lower(): value for name, value in headers.items()}, body)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _make_socket(info: AddressInfo) -> socket.socket:
    sock = socket.socket(*info[:3])
    sock.setblocking(False)
    return sock


def _tls_context(ca_file: str) -> ssl.SSLContext:
    """Whom the library trusts too (``AWS_CA_BUNDLE`` and its kin); reads files."""
    bundle = ca_file or Session().get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE") or True
    return configure_for_http1(ssl.create_default_context(cafile=get_cert_path(bundle)))
