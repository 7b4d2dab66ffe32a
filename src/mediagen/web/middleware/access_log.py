"""The access log: one line for each request, without its query string."""

from __future__ import annotations

import logging
from typing import Final

import structlog
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

from mediagen.web.http.connection_timeouts import answered
from mediagen.web.http.forwarded import FORWARDED
from mediagen.web.middleware.errors import REQUEST_ID
from mediagen.web.middleware.probes import WATCHED_PATHS

FRAMEWORK_LOG: Final = logging.getLogger("mediagen.http")
"""Where aiohttp's server tells of what it did not expect."""


class AccessLog(AbstractAccessLogger):
    """One record for each answer. Without the query string, which can hold what must not be written down."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        answered(request)
        client = request.remote
        if request.method == _NO_METHOD:  # what is no HTTP; aiohttp says why in the answer
            said = response.text if isinstance(response, web.Response) else None
            reason = (said or "").strip().partition("\n")[0].rstrip(" :")
            _ACCESS.info("request_malformed", status=response.status, reason=reason[:100], client=client)
            return
        # what is no HTTP never reached the application: such a request belongs to none
        if isinstance(request, web.Request) and REQUEST_ID in request and (forwarded := request.app.get(FORWARDED)):
            client = forwarded.client(request)
        watched = request.path.endswith(WATCHED_PATHS) and response.status < 400
        emit = _ACCESS.debug if watched else _ACCESS.info
        emit(
            "request",
            method=request.method,
            path=request.path,
            status=response.status,
            bytes=response.body_length,
            milliseconds=round(time * 1000, 1),
            client=client,
            request_id=request.get(REQUEST_ID),
        )


_NO_METHOD: Final = "UNKNOWN"
"""What aiohttp says of a request that its parser has refused; no parser takes such a method from a client."""


_ACCESS: Final = structlog.get_logger("mediagen.access")


def _not_malformed(record: logging.LogRecord) -> bool:
    """Whether a record of aiohttp tells of more than a malformed request, which has its line in the access log."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


FRAMEWORK_LOG.addFilter(_not_malformed)
