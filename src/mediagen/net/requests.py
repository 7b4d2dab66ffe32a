"""Requests to the outside: through the policy, with every failure in our own words; a GET also along redirects."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Mapping
from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from mediagen.core.errors import (
    ConnectTimeout,
    FetchFailed,
    FetchRefused,
    FirstByteTimeout,
    InvalidRequest,
    UrlNotAllowed,
)
from mediagen.net import urls
from mediagen.net.connection_errors import FORBIDDEN, AddressForbidden, describe_cause, describe_certificate_error
from mediagen.net.http1.dialer import Dialer
from mediagen.net.http1.response import Response, send_request
from mediagen.net.policy import check_text
from mediagen.net.retry import parse_retry_after
from mediagen.net.session import COMMON_HEADERS, Session
from mediagen.net.settings import FetchSettings
from mediagen.net.trusted_origin import TrustedOrigin
from mediagen.streams.base import KIB

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be different the next time (RFC 9110, RFC 6585, RFC 8470)."""
GONE: Final = frozenset({403, 404, 410})
"""How a link that has expired answers."""
_MAX_COOKIES: Final = 8 * KIB


async def get(
    session: Session,
    url: str,
    settings: FetchSettings,
    headers: Mapping[str, str],
    trusted: TrustedOrigin | None = None,
) -> Response:
    """The answer to a GET, whatever its status but redirects, which are followed here; its body is unread.

    A hop at the ``trusted`` origin goes through its dialer and carries its credentials; every other one does not.
    Cookies that a hop sets are sent to the later hops that they are for, and forgotten after that.

    Raises:
        UrlNotAllowed, InvalidRequest: the URL, or one that it redirects to.
        ConnectTimeout, FirstByteTimeout, FetchFailed: no answer.
    """
    target, cookies = check_text(url), _Cookies()
    for _ in range(settings.max_redirects + 1):
        inside = trusted if trusted is not None and trusted.covers(target) else None
        fields = CIMultiDict({**COMMON_HEADERS, **headers, **cookies.of(target)})
        if inside is not None:
            fields.update(inside.headers)
        dialer = session.dialer if inside is None else inside.dialer
        response = await _get_once(dialer, target, fields, settings.first_byte_seconds)
        if response.status not in _REDIRECTS:
            return response
        response.close()
        location = response.headers.get("Location")
        if not location:
            raise FetchRefused(f"the source redirects ({response.status}) without a Location")
        cookies.keep(response)
        target = _next_hop(target, location)
    raise FetchRefused(f"the source redirects more than {settings.max_redirects} times")


class _Cookies:
    """Cookies of one chain of redirects (RFC 6265): some sources send a visitor on, and back only with a cookie."""

    def __init__(self) -> None:
        self._jar: aiohttp.CookieJar | None = None

    def keep(self, response: Response) -> None:
        lines = response.headers.getall("Set-Cookie", [])
        if not lines or sum(map(len, lines)) > _MAX_COOKIES:
            return
        if self._jar is None:
            self._jar = aiohttp.CookieJar(unsafe=True)  # hosts may be addresses
        self._jar.update_cookies_from_headers(lines, response.url)

    def of(self, url: URL) -> dict[str, str]:
        """The ``Cookie`` field of a request."""
        if self._jar is None:
            return {}
        pairs = [f"{name}={morsel.coded_value}" for name, morsel in self._jar.filter_cookies(url).items()]
        text = "; ".join(pairs)
        return {"Cookie": text} if pairs and len(text) <= _MAX_COOKIES and text.isascii() and text.isprintable() else {}


def _next_hop(present: URL, location: str) -> URL:
    """Where ``location`` (a field's value as Latin-1) leads from ``present``."""
    following = check_text(urls.resolve(str(present), urls.decode_url_field(location)))
    if present.scheme == "https" and following.scheme == "http":
        raise UrlNotAllowed("the source redirects from https to http, which is not followed")
    return following


async def _get_once(dialer: Dialer, url: URL, headers: Mapping[str, str], seconds: float) -> Response:
    """The answer of one hop, its head within ``seconds`` once the connection stands."""
    try:
        sock = await dialer.connect(url)
    except OSError as exc:
        raise _no_connection(url, exc, dialer.seconds) from None
    try:
        async with asyncio.timeout(seconds):
            return await send_request(sock, "GET", url, headers)
    except TimeoutError:
        raise FirstByteTimeout(f"no response within {seconds:g} s") from None
    except OSError as exc:
        raise _no_answer(url, exc) from None


async def send(
    session: Session,
    url: URL,
    headers: Mapping[str, str],
    body: bytes,
    *,
    connect_seconds: float,
    answer_seconds: float,
) -> aiohttp.ClientResponse:
    """The answer to a POST, its body unread.

    Args:
        url: has passed ``policy.check_text``; the session checks where it leads.
        connect_seconds: limit for a connection.
        answer_seconds: limit for the head of the answer after that.

    Raises:
        UrlNotAllowed, InvalidRequest, ConnectTimeout, FirstByteTimeout, FetchFailed: no answer.
    """
    try:
        async with asyncio.timeout(connect_seconds + answer_seconds):
            return await session.client.post(url, headers=headers, data=io.BytesIO(body), allow_redirects=False)
    except aiohttp.ConnectionTimeoutError:
        raise ConnectTimeout(f"no connection within {connect_seconds:g} s") from None
    except TimeoutError:
        raise FirstByteTimeout(f"no response within {answer_seconds:g} s") from None
    except aiohttp.InvalidURL:
        raise InvalidRequest("not a URL that can be fetched") from None
    except aiohttp.ClientConnectorCertificateError as exc:
        raise _no_connection(url, exc.certificate_error, connect_seconds) from None
    except aiohttp.ClientConnectorError as exc:
        raise _no_connection(url, exc.os_error, connect_seconds) from None
    except (aiohttp.ClientError, OSError) as exc:
        raise _no_answer(url, exc) from None


def _no_connection(url: URL, exc: BaseException, seconds: float) -> FetchFailed | UrlNotAllowed:
    facts = {"host": url.host, "reason": repr(exc)}
    if isinstance(exc, AddressForbidden):
        return UrlNotAllowed(FORBIDDEN, host=url.host)
    if isinstance(exc, TimeoutError) and exc.errno is None:
        return ConnectTimeout(f"no connection within {seconds:g} s", **facts)
    if isinstance(exc, ssl.SSLCertVerificationError):
        return FetchRefused(f"the source's certificate is not trusted: {describe_certificate_error(exc)}", **facts)
    cause = describe_cause(exc) if isinstance(exc, OSError) else "its certificate cannot be read"
    return FetchFailed(f"no connection to the source: {cause}", **facts)


def _no_answer(url: URL, exc: Exception) -> FetchFailed:
    return FetchFailed("the source closed the connection before it responded", host=url.host, reason=repr(exc))


def error_for_status(response: Response) -> FetchFailed:
    """The error for a status that is no success, with the time that the source asks us to wait."""
    detail = f"the source answered {response.status} {response.reason or ''}".rstrip()
    if response.status in _TRANSIENT:
        after = parse_retry_after(response.headers.get("Retry-After"))
        return FetchFailed(detail, status=response.status, retry_after=after)
    return FetchRefused(detail, status=response.status)
