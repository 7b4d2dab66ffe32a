"""The outermost ring of the server: request ids, errors to answers, headers on everything, the access log."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import structlog
from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

from mediagen.core.errors import MediagenError, Unavailable, first_cause
from mediagen.web.docs.routes import missing_page
from mediagen.web.http import problems
from mediagen.web.http.connection_timeouts import answered
from mediagen.web.http.forwarded import WATCHED_PATHS, Origins
from mediagen.web.http.path_aliases import usual

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID: Final = web.RequestKey("request_id", str)
REQUEST_ID_HEADER: Final = "x-request-id"
_GIVEN_ID: Final = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_CLIENT_GONE: Final = 499
_NO_METHOD: Final = "UNKNOWN"
"""What aiohttp says of a request that its parser has refused; no parser takes such a method from a client."""
_JSON_TYPES: Final = frozenset({"application/json", "application/problem+json"})
_ORIGINS: Final = web.AppKey("origins", Origins)
_LOG: Final = structlog.get_logger("mediagen.web")
_ACCESS: Final = structlog.get_logger("mediagen.access")


class Edge:
    """The one place where an exception becomes an answer."""

    def __init__(self, origins: Origins, *, base_path: str) -> None:
        self._origins = origins
        self._base_path = base_path

    def install(self, app: web.Application) -> None:
        """Put the ring round what is inside of ``app`` by now; the first middleware is the outermost."""
        app[_ORIGINS] = self._origins
        app.middlewares.append(self.middleware)
        app.on_response_prepare.append(self._finish_headers)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get(REQUEST_ID_HEADER, "")
        request_id = given if _GIVEN_ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"
        request[REQUEST_ID] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                return await handler(request)
            except web.HTTPException as exc:
                if isinstance(exc, web.HTTPNotFound) and _is_browser(request):
                    return missing_page(request.path, self._base_path)
                error = problems.from_http(exc, request, base_path=self._base_path)
                cause: BaseException = exc
            except MediagenError as exc:
                error = cause = exc
            except Exception as exc:  # noqa: BLE001 - the edge: nothing may leave as a bare 500 or a stack trace
                if _is_gone(request):
                    return _to_nobody(request)
                cause = first_cause(exc)
                error = cause if isinstance(cause, MediagenError) else MediagenError("the server failed to answer")
            return self._answer(request, error, cause, request_id)

    def _answer(
        self, request: web.Request, error: MediagenError, cause: BaseException, request_id: str
    ) -> web.StreamResponse:
        status = problems.status_of(type(error))
        if status >= 500 and not isinstance(error, Unavailable):
            unknown = not isinstance(cause, MediagenError)
            context = {name: value for name, value in error.context.items() if name != "headers"}
            _LOG.error(
                "request_failed",
                method=request.method,
                path=request.path,
                code=error.code,
                detail=error.detail,
                context=context,
                exc_info=cause if unknown else None,
            )
        if request.writer.output_size > 0:
            # the answer has begun: cutting the connection is the only way left to say that it is not whole
            return _to_nobody(request)
        path = usual(request.path, self._base_path)[0].removeprefix(self._base_path) or "/"
        response = problems.answer(error, path=path, request_id=request_id)
        if not request.content.is_eof():
            # the rest of the body is not wanted, and one that was not invited never comes (RFC 9110 section 10.1.1)
            response.force_close()
        return response

    async def _finish_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        headers = response.headers
        headers.popall(hdrs.SERVER, None)
        headers[REQUEST_ID_HEADER] = request.get(REQUEST_ID) or f"req_{secrets.token_hex(8)}"
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "no-referrer")
        if response.content_type in _JSON_TYPES or response.status in {204, 302}:
            headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
            headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self._origins.add_headers(request, response)


def _is_browser(request: web.Request) -> bool:
    """Whether a person looks at the answer: browsers alone ask for HTML by name (RFC 9110 section 12.5.1)."""
    return request.method in {hdrs.METH_GET, hdrs.METH_HEAD} and "text/html" in request.headers.get(hdrs.ACCEPT, "")


def _is_gone(request: web.Request) -> bool:
    """Whether the client has left: what fails then fails because of that."""
    return request.transport is None or request.transport.is_closing()


def _to_nobody(request: web.Request) -> web.Response:
    """What stands in the access log when there is nobody to answer; the status is nginx's for it."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=_CLIENT_GONE, reason="Client Gone")


def _not_malformed(record: logging.LogRecord) -> bool:
    """Whether a record of aiohttp tells of more than a malformed request, which has its line in the access log."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


FRAMEWORK_LOG: Final = logging.getLogger("mediagen.http")
"""Where aiohttp's server tells of what it did not expect."""
FRAMEWORK_LOG.addFilter(_not_malformed)


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
        if isinstance(request, web.Request) and REQUEST_ID in request and (origins := request.app.get(_ORIGINS)):
            client = origins.client(request)
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
