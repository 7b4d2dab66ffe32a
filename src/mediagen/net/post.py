"""One POST to an address that somebody named: no redirects, and of the answer only what a sender has to know."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from mediagen.net.policy import check_text
from mediagen.net.requests import send
from mediagen.net.retry import parse_retry_after
from mediagen.net.session import Session
from mediagen.streams.base import KIB

MAX_ANSWER: Final = 64 * KIB
"""Bytes of the answer's body that are read, so that its connection can be used again; after more it is closed."""
_BODY_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """An answer: its status, and the seconds that it asks us to wait (``Retry-After``), if it does."""

    status: int
    retry_after: float | None


async def post(
    session: Session,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    connect_seconds: float,
    seconds: float,
) -> Receipt:
    """Send ``body`` within ``seconds``; what the answer's body says is thrown away, unseen by anybody.

    Raises:
        UrlNotAllowed, InvalidRequest, ConnectTimeout, FirstByteTimeout, FetchFailed: no answer.
    """
    connecting = min(connect_seconds, seconds / 2)
    response = await send(
        session,
        check_text(url),
        headers,
        body,
        connect_seconds=connecting,
        answer_seconds=seconds - connecting,
    )
    try:
        receipt = Receipt(response.status, parse_retry_after(response.headers.get("Retry-After")))
        await _read_over(response)
    finally:
        response.close()  # of the connection only when the body was not read to its end
    return receipt


async def _read_over(response: aiohttp.ClientResponse) -> None:
    left = MAX_ANSWER
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)
    except (TimeoutError, aiohttp.ClientError, OSError):
        return  # the status has come, and that is the answer
