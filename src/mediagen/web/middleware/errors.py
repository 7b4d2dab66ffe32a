"""Turns exceptions into answers, and gives every answer its request id and its headers."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import structlog
from aiohttp import hdrs, web

from mediagen.core.errors import MediagenError, Unavailable, first_cause
from mediagen.web.http import problems
from mediagen.web.http.path_aliases import usual

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID: Final = web.RequestKey("request_id", str)
REQUEST_ID_HEADER: Final = "x-request-id"
_GIVEN_ID: Final = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_CLIENT_GONE: Final = 499
_JSON_TYPES: Final = frozenset({"application/json", "application/problem+json"})
_LOG: Final = structlog.get_logger("mediagen.web")


class ErrorMiddleware:
    """The one place where an exception becomes an answer.

    ``not_found_page`` makes the page that a browser gets for a path that does not exist.
    """

    def __init__(self, not_found_page: Callable[[str], web.Response], *, base_path: str) -> None:
        self._not_found_page = not_found_page
        self._base_path = base_path

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
                    return self._not_found_page(request.path)
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

    async def add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        headers = response.headers
        headers.popall(hdrs.SERVER, None)
        headers[REQUEST_ID_HEADER] = request.get(REQUEST_ID) or f"req_{secrets.token_hex(8)}"
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "no-referrer")
        if response.content_type in _JSON_TYPES or response.status in {204, 302}:
            headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
            headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")


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
