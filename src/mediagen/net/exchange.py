"""Requests to the outside: through the policy, with every failure in our own words; a GET also along redirects."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from typing import Final

import aiohttp
from yarl import URL

from mediagen.core.errors import (
    ConnectTimeout,
    FetchFailed,
    FetchRefused,
    FirstByteTimeout,
    InvalidRequest,
    UrlNotAllowed,
)
from mediagen.net.policy import check_text
from mediagen.net.retry import parse_retry_after
from mediagen.net.session import AddressForbidden
from mediagen.net.settings import FetchSettings
from mediagen.net.trust import TrustedOrigin

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be different the next time (RFC 9110, RFC 6585, RFC 8470)."""
GONE: Final = frozenset({403, 404, 410})
"""How a link that has expired answers."""


async def get(
    session: aiohttp.ClientSession,
    url: str,
    settings: FetchSettings,
    headers: Mapping[str, str],
    trusted: TrustedOrigin | None = None,
) -> aiohttp.ClientResponse:
    """The answer to a GET, whatever its status but redirects, which are followed here; its body is unread.

    A hop at the ``trusted`` origin goes through its session and carries its credentials; every other one does not.

    Raises:
        UrlNotAllowed, InvalidRequest: the URL, or one that it redirects to.
        ConnectTimeout, FirstByteTimeout, FetchFailed: no answer.
    """
    target = check_text(url)
    for _ in range(settings.max_redirects + 1):
        inside = trusted if trusted is not None and trusted.covers(target) else None
        response = await request(
            session if inside is None else inside.session,
            "GET",
            target,
            headers if inside is None else {**headers, **inside.headers},
            connect_seconds=settings.connect_seconds,
            answer_seconds=settings.first_byte_seconds,
        )
        if response.status not in _REDIRECTS:
            return response
        location = response.headers.get("Location")
        response.close()
        if not location:
            raise FetchRefused(f"the source redirects ({response.status}) without saying where to")
        target = _next_hop(target, location)
    raise FetchRefused(f"the source redirects more than {settings.max_redirects} times")


def _next_hop(present: URL, location: str) -> URL:
    try:
        joined = str(present.join(URL(location, encoded=True)))
    except ValueError:
        raise FetchRefused("the source redirects to something that is not a URL") from None
    following = check_text(joined)
    if present.scheme == "https" and following.scheme == "http":
        raise UrlNotAllowed("the source redirects from https to http")
    return following


async def request(
    session: aiohttp.ClientSession,
    method: str,
    url: URL,
    headers: Mapping[str, str],
    *,
    connect_seconds: float,
    answer_seconds: float,
    body: bytes | None = None,
) -> aiohttp.ClientResponse:
    """The answer of one hop, its body unread.

    Args:
        url: has passed ``policy.check_text``; the session checks where it leads.
        connect_seconds: limit for a connection.
        answer_seconds: limit for the head of the answer after that.

    Raises:
        UrlNotAllowed, InvalidRequest, ConnectTimeout, FirstByteTimeout, FetchFailed: no answer.
    """
    data = None if body is None else io.BytesIO(body)
    try:
        async with asyncio.timeout(connect_seconds + answer_seconds):
            return await session.request(method, url, headers=headers, data=data, allow_redirects=False)
    except aiohttp.ConnectionTimeoutError:
        raise ConnectTimeout(f"no connection within {connect_seconds:g} s") from None
    except TimeoutError:
        raise FirstByteTimeout(f"no answer within {answer_seconds:g} s") from None
    except aiohttp.InvalidURL:
        raise InvalidRequest("not a URL that can be fetched") from None
    except aiohttp.ClientConnectorCertificateError as exc:
        raise FetchRefused("the source's certificate is not to be trusted", host=url.host, reason=str(exc)) from None
    except aiohttp.ClientConnectorError as exc:
        if isinstance(exc.os_error, AddressForbidden):
            raise UrlNotAllowed("the URL leads to an address that is not allowed", host=url.host) from None
        raise FetchFailed("no connection to the source", host=url.host, reason=str(exc.os_error)) from None
    except (aiohttp.ClientError, OSError) as exc:
        raise FetchFailed("the source broke off before its answer", host=url.host, reason=repr(exc)) from None


def refuse(response: aiohttp.ClientResponse) -> FetchFailed:
    """The error for a status that is no success, with the time that the source asks us to wait."""
    detail = f"the source answered {response.status} {response.reason or ''}".rstrip()
    if response.status in _TRANSIENT:
        after = parse_retry_after(response.headers.get("Retry-After"))
        return FetchFailed(detail, status=response.status, retry_after=after)
    return FetchRefused(detail, status=response.status)
