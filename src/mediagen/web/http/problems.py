"""How errors look from outside: one table of statuses, two shapes.

Routes of the OpenAI-compatible surface answer ``{"error": {message, type, param, code}}``; all others answer
``application/problem+json`` (RFC 9457) with our stable ``code`` added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from mediagen.core import errors
from mediagen.core.errors import InvalidRequest, MediagenError, UnsupportedMedia
from mediagen.web.http.json_output import text_as_json

OPENAI_PREFIXES: Final = ("/v1/images", "/v1/videos", "/v1/models")
"""Paths of routes in the shapes of OpenAI. Its clients leave ``/v1`` out when their base URL does."""


def is_openai(path: str) -> bool:
    """Whether a request to that path is OpenAI's."""
    return path.startswith(OPENAI_PREFIXES) or f"/v1{path}".startswith(OPENAI_PREFIXES)


class FieldFault(BaseModel):
    """One fault of a request."""

    model_config = ConfigDict(frozen=True)

    field: str | None = Field(description="path of the field, joined by dots; null: the request as a whole")
    message: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="a stable word; docs/errors.md says how to react")
    retryable: bool = Field(description="whether the same request can succeed later")
    request_id: str
    errors: list[FieldFault] = Field(default_factory=list, description="one entry for each invalid field")


class OpenAIFault(BaseModel):
    """An error in OpenAI's format."""

    model_config = ConfigDict(frozen=True)

    message: str
    type: str
    param: str | None
    code: str


class OpenAIProblem(BaseModel):
    """An error of the OpenAI-compatible routes."""

    model_config = ConfigDict(frozen=True)

    error: OpenAIFault


class BodyStalled(InvalidRequest):
    """The client stopped sending the body of its request, or sends it too slowly."""

    code = "request_timeout"


class MethodNotAllowed(InvalidRequest):
    """The path exists, but not with this method."""

    code = "method_not_allowed"


class EncodedBody(UnsupportedMedia):
    """A request body with a Content-Encoding; we take bodies as they are, so that a small one cannot become huge."""


class Forbidden(MediagenError):
    """The call comes from a page or by a name that may not use this server."""

    code = "forbidden"


class TaskFailed(MediagenError):
    """A task failed by a fault of ours. Its words are those of the task, which everybody may read."""


class LinkExpired(Forbidden):
    """A link of ours to a file that was good for a while; the file has a new one."""

    code = "link_expired"


class PreconditionFailed(MediagenError):
    """``If-Match`` or ``If-Unmodified-Since`` does not hold (RFC 9110 section 13)."""

    code = "precondition_failed"


class RangeNotSatisfiable(MediagenError):
    """The asked range begins behind the end of the file."""

    code = "range_not_satisfiable"


STATUS: Final[Mapping[type[MediagenError], HTTPStatus]] = {
    MediagenError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InvalidRequest: HTTPStatus.BAD_REQUEST,
    errors.UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.IdempotencyMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.FetchFailed: HTTPStatus.BAD_GATEWAY,
    errors.StorageUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.ProviderError: HTTPStatus.BAD_GATEWAY,
    errors.ProviderRateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    errors.ContentRefused: HTTPStatus.BAD_REQUEST,
    errors.Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.TaskCancelled: HTTPStatus.CONFLICT,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    BodyStalled: HTTPStatus.REQUEST_TIMEOUT,
    MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    Forbidden: HTTPStatus.FORBIDDEN,
    PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    RangeNotSatisfiable: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
}

ANY_CALL: Final[tuple[type[MediagenError], ...]] = (
    InvalidRequest,
    Forbidden,
    BodyStalled,
    errors.TooLarge,
    EncodedBody,
    errors.RateLimited,
    MediagenError,
    errors.Unavailable,
)
"""What every call can meet, whatever it is for."""

CLOSING: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
)
"""After these the rest of the body is not wanted, so the connection is not used again."""

DO_NOT_RETRY: Final = {"x-should-retry": "false"}
"""OpenAI's clients try 409, 429 and 5xx again by themselves, POSTs too, unless the answer says this."""
PATIENCE_SECONDS: Final = 60
"""The longest wait that they are left to: of what takes longer one client waits silently, however long it is."""

_OPENAI_TYPES: Final[Mapping[HTTPStatus, str]] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


def status_of(error: type[MediagenError]) -> HTTPStatus:
    """The status of the nearest class in the table, so that a new error inherits its parent's."""
    for cls in error.__mro__:
        status = STATUS.get(cast(type[MediagenError], cls))
        if status is not None:
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def from_http(exc: web.HTTPException, request: web.Request, *, base_path: str) -> MediagenError:
    """Our error for what aiohttp itself raises: no such route, no such method, a malformed request."""
    if isinstance(exc, web.HTTPNotFound):
        return errors.NotFound(f"there is no {request.path}; {base_path}/docs lists the paths of this server")
    if isinstance(exc, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(exc.allowed_methods))
        return MethodNotAllowed(f"{request.path} supports {allowed}", headers={"Allow": allowed})
    if isinstance(exc, web.HTTPRequestEntityTooLarge):
        return errors.TooLarge("the request body is too large")
    if exc.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return InvalidRequest(exc.text or exc.reason)
    return MediagenError("the server failed to answer")


def openai_error(error: MediagenError) -> dict[str, Any]:
    """``error`` as OpenAI's clients read it."""
    status = status_of(type(error))
    kind = _OPENAI_TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    return {
        "error": {
            "message": _said(error),
            "type": kind,
            "param": error.context.get("field") or error.context.get("param"),
            "code": error.code,
        }
    }


def _said(error: MediagenError) -> str:
    ours = status_of(type(error)) is HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, TaskFailed)
    return "the server failed; see its log" if ours else error.detail


def answer(error: MediagenError, *, path: str, request_id: str) -> web.Response:
    """The response for ``error`` on ``path`` (without the base path).

    ``error.context`` may carry ``retry_after`` (seconds), ``field`` (name of the one at fault), ``errors`` (list of
    ``{field, message}``) and ``headers``.
    """
    status = status_of(type(error))
    body: dict[str, Any]
    if is_openai(path):
        body = openai_error(error)
        media_type = "application/json"
    else:
        body = {
            "type": "about:blank",
            "title": status.phrase,
            "status": int(status),
            "detail": _said(error),
            "instance": path,
            "code": error.code,
            "retryable": error.retryable,
            "request_id": request_id,
        }
        faults = error.context.get("errors")
        if isinstance(faults, Sequence) and faults:
            body["errors"] = faults
        media_type = "application/problem+json"
    response = web.Response(status=int(status), text=text_as_json(body), content_type=media_type)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(0, math.ceil(error.retry_after)))
    if is_openai(path) and (status is HTTPStatus.CONFLICT or (error.retry_after or 0) > PATIENCE_SECONDS):
        response.headers.update(DO_NOT_RETRY)
    headers = error.context.get("headers")
    if isinstance(headers, Mapping):
        response.headers.update(headers)
    if status in CLOSING:
        response.force_close()
    return response
