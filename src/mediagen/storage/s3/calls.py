"""One S3 request: its deadline, its retries, its errors in our words.

botocore's own retries are off: in its modes 429 is not retried or ``Retry-After`` is ignored, and its read timeout does
not end an upload whose peer accepts and then neither reads nor answers. The deadline here covers every call whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from ssl import SSLCertVerificationError
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import structlog
from aiohttp import ClientConnectorCertificateError, ClientConnectorError
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError, SSLError
from botocore.exceptions import ConnectionError as NoConnection
from botocore.parsers import ResponseParserError

from mediagen.core.errors import (
    MediagenError,
    NotFound,
    StorageFull,
    StorageRefused,
    StorageUnavailable,
    TooLarge,
    UploadLost,
)
from mediagen.net.retry import RetryPolicy, parse_retry_after
from mediagen.storage.s3.deadline import store_deadline
from mediagen.storage.s3.http import Expectations, Route, routed
from mediagen.storage.s3.payload import BodyPayload
from mediagen.storage.s3.request_slots import RequestSlots
from mediagen.storage.s3.unconfirmed import UnconfirmedRequests
from mediagen.storage.s3.uploader import StoreUnreachable
from mediagen.streams.base import Body
from mediagen.streams.turnstile import Turnstile

log = structlog.get_logger()

_THROTTLED: Final = frozenset(
    {"SlowDown", "RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequests", "ServiceUnavailable"}
)
_REPEATABLE: Final = frozenset(
    {
        "OperationAborted",
        "ConditionalRequestConflict",
        "RequestTimeout",
        "InternalError",
        # the bytes were changed or cut short on their way
        "BadDigest",
        "IncompleteBody",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)
_FULL: Final = frozenset({"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull"})
_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_OF_UPLOADS: Final = frozenset({"UploadPart", "ListParts", "CompleteMultipartUpload", "AbortMultipartUpload"})
"""Operations in which "no such key" means the upload: Ceph's gateway says so of one that has been completed."""
_TURNS: Final = 4
"""Times that one call may be sent on, or repeated without ``Expect``."""
_HINTS: Final = {
    "403": "the credentials are wrong, or may not do this",
    "AccessDenied": "the credentials may not do this",
    "BadDigest": "the bytes were changed on their way",
    "IncompleteBody": "the body was cut short on its way",
    "XAmzContentChecksumMismatch": "the bytes were changed on their way",
    "XAmzContentSHA256Mismatch": "the bytes were changed on their way",
    "AuthorizationHeaderMalformed": "storage.s3.region is wrong",
    "InvalidAccessKeyId": "storage.s3.access_key_id is not known there",
    "NoSuchBucket": "storage.s3.bucket does not exist there",
    "PermanentRedirect": "storage.s3.region or storage.s3.endpoint_url is wrong",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "SignatureDoesNotMatch": "storage.s3.secret_access_key is wrong",
}
"""What an operator can do about it."""


class S3Api(Protocol):
    """The calls of the S3 client that we use; its library ships no types."""

    def create_multipart_upload(self, **kwargs: Any) -> Awaitable[dict[str, Any]]: ...
    def upload_part(self, **kwargs: Any) -> Awaitable[dict[str, Any]]: ...
    def complete_multipart_upload(self, **kwargs: Any) -> Awaitable[dict[str, Any]]: ...
    def abort_multipart_upload(self, **kwargs: Any) -> Awaitable[dict[str, Any]]: ...
    def list_parts(self, **kwargs: Any) -> Awaitable[dict[str, Any]]: ...
    def list_multipart_uploads(self, **kwargs: Any) -> Awaitable[dict[str, Any]]: ...
    def put_object(self, **kwargs: Any) -> Awaitable[dict[str, Any]]: ...
    def get_object(self, **kwargs: Any) -> Awaitable[dict[str, Any]]: ...
    def head_object(self, **kwargs: Any) -> Awaitable[dict[str, Any]]: ...
    def head_bucket(self, **kwargs: Any) -> Awaitable[dict[str, Any]]: ...
    def delete_object(self, **kwargs: Any) -> Awaitable[dict[str, Any]]: ...
    def generate_presigned_url(self, operation: str, **kwargs: Any) -> Awaitable[str]: ...


class S3Caller:
    """Carries out S3 requests with deadline, retries and adaptive concurrency."""

    def __init__(
        self,
        *,
        policy: RetryPolicy,
        slots: RequestSlots,
        answer_seconds: float,
        minimum_rate: int,
        unconfirmed: UnconfirmedRequests,
        expectations: Expectations,
    ) -> None:
        self._policy = policy
        self._unconfirmed = unconfirmed
        self._expectations = expectations
        self._slots = slots
        self._answer_seconds = answer_seconds
        self._minimum_rate = minimum_rate
        self._turnstile = Turnstile()

    async def call(
        self,
        operation: Callable[..., Awaitable[dict[str, Any]]],
        arguments: Mapping[str, Any],
        *,
        body: Body | None = None,
        deadline: float | None = None,
        creates: str | None = None,
        on_failure: Callable[[MediagenError], object] | None = None,
    ) -> dict[str, Any]:
        """The answer of ``operation``, repeated while that can help.

        Args:
            creates: key of what the store will have once it has carried this out, whether we hear of it or not.
            on_failure: told of every try in vain.

        Raises:
            StorageUnavailable and its children; NotFound; what stopped the source while the body was read.
        """
        with self._unconfirmed.during(creates):
            return await self._repeated(operation, arguments, body, deadline, creates, on_failure)

    async def _repeated(
        self,
        operation: Callable[..., Awaitable[dict[str, Any]]],
        arguments: Mapping[str, Any],
        body: Body | None,
        deadline: float | None,
        creates: str | None,
        on_failure: Callable[[MediagenError], object] | None,
    ) -> dict[str, Any]:
        failures, turns = 0, 0
        route = Route()
        while True:
            with routed(route):
                error = await self._once(operation, arguments, body, deadline, creates)
            if isinstance(error, dict):
                return error
            if turns < _TURNS and self._goes_on(error, route):
                turns += 1
                continue
            route.target = None
            failures += 1
            if on_failure is not None:
                on_failure(error)
            # an upload that the store does not know will not come back: the transfer starts over, not the call
            if not error.retryable or isinstance(error, UploadLost) or failures >= self._policy.attempts:
                raise error
            delay = self._policy.delay(failures, error.retry_after)
            log.info(
                "storage_call_retried", failures=failures, delay=round(delay, 2), detail=error.detail, **error.context
            )
            await asyncio.sleep(delay)

    def _goes_on(self, error: MediagenError, route: Route) -> bool:
        """Whether the answer is no failure yet: the store wants the same request in another way, or elsewhere."""
        if error.context.get("status") == HTTPStatus.EXPECTATION_FAILED:
            self._expectations.disappointed("417")
            return True
        location = error.context.get("location")
        return isinstance(location, str) and route.follow(location)

    async def _once(
        self,
        operation: Callable[..., Awaitable[dict[str, Any]]],
        arguments: Mapping[str, Any],
        body: Body | None,
        deadline: float | None,
        creates: str | None,
    ) -> dict[str, Any] | MediagenError:
        limit = deadline or self._answer_seconds
        payload: BodyPayload | None = None
        heard = False
        if body is not None:
            limit += len(body) / self._minimum_rate
            payload = BodyPayload(body, self._turnstile)
            arguments = {**arguments, "Body": payload}
        async with self._slots.slot():
            try:
                async with store_deadline(limit, payload):
                    await self._turnstile.pass_through()
                    answer = await operation(**arguments)
                    heard = True
            except (ClientError, BotoCoreError, ResponseParserError, OSError, TimeoutError) as exc:
                heard = was_not_carried_out(exc)
                if payload is not None and payload.failure is not None:
                    raise payload.failure from None
                error = translate_error(exc, limit)
                if error.context.get("throttled"):
                    self._slots.throttle()
                return error
            finally:
                # of a part that was cut short no store keeps anything
                cut_short = payload is not None and not payload.given and "PartNumber" in arguments
                if creates is not None and not heard and not cut_short:
                    self._unconfirmed.unheard(creates)
                if payload is not None:
                    payload.release()
            self._slots.succeed()
            return answer


def translate_error(exc: Exception, limit: float) -> MediagenError:
    """The error of ours for what the S3 library raised."""
    if isinstance(exc, ClientError):
        return _from_answer(exc)
    if isinstance(exc, TimeoutError):
        return StorageUnavailable(f"the store did not answer within {limit:.0f} s")
    if isinstance(exc, NoCredentialsError):
        return StorageRefused("no credentials for the store: set storage.s3.access_key_id")
    untrusted = (ClientConnectorCertificateError, SSLCertVerificationError)
    if isinstance(exc, SSLError) and isinstance(exc.kwargs.get("error"), untrusted):
        return StorageRefused("the store's certificate is not trusted: set storage.s3.ca_file", reason=repr(exc))
    if isinstance(exc, NoConnection | HTTPClientError | OSError):
        return StorageUnavailable("no connection to the store, or it broke", reason=repr(exc))
    if isinstance(exc, ResponseParserError):
        return StorageUnavailable("the answer is not that of an S3 store", reason=repr(exc))
    return StorageRefused(f"the store's client refuses: {exc}")


def was_not_carried_out(exc: Exception) -> bool:
    """Whether the store surely did not do what it was asked: it said so, or was never reached.

    A gateway's 502 or 504, a 500 and no answer at all say nothing about it.
    """
    if isinstance(exc, ClientError):
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return 300 <= status < 500 or exc.response.get("Error", {}).get("Code") in _THROTTLED
    untrusted = isinstance(exc, SSLError) and isinstance(exc.kwargs.get("error"), SSLCertVerificationError)
    of_library = isinstance(exc, BotoCoreError) and isinstance(exc.kwargs.get("error"), ClientConnectorError)
    return isinstance(exc, StoreUnreachable) or untrusted or of_library


def required(answer: Mapping[str, Any], name: str) -> str:
    """A field that no S3 store leaves out. Raises StorageUnavailable when something else has answered in its place."""
    try:
        return str(answer[name])
    except KeyError:
        raise StorageUnavailable(f"the answer is not that of an S3 store: it has no {name}") from None


def _from_answer(exc: ClientError) -> MediagenError:
    answer: dict[str, Any] = exc.response
    meta = answer.get("ResponseMetadata", {})
    status = int(meta.get("HTTPStatusCode", 0))
    code = str(answer.get("Error", {}).get("Code", status))
    if code in _MISSING and exc.operation_name == "HeadBucket":
        code = "NoSuchBucket"
    detail = f"the store answered {status} {HTTPStatus(status).phrase if code == str(status) else code}"
    if code in _HINTS:
        detail += f": {_HINTS[code]}"
    facts: dict[str, Any] = {"status": status, "s3_code": code, "operation": exc.operation_name}
    if status in (301, 302, 303, 307, 308):
        location = str(meta.get("HTTPHeaders", {}).get("location", ""))
        if location:
            host = urlsplit(location).netloc or "itself"
            detail = f"the store answered {status} and sends the request to {host}"
        if status in (307, 308) and location:
            facts["location"] = location
        if code not in _HINTS:
            detail += ": storage.s3.endpoint_url or storage.s3.region is wrong"
        return StorageRefused(detail, **facts)
    if code in _THROTTLED or status in (429, 503):
        after = parse_retry_after(meta.get("HTTPHeaders", {}).get("retry-after"))
        return StorageUnavailable(detail, throttled=True, retry_after=after, **facts)
    if code in _FULL or status == 507:
        return StorageFull(detail, **facts)
    if code == "NoSuchUpload" or (code in _MISSING and exc.operation_name in _OF_UPLOADS):
        return UploadLost(detail, **facts)
    if code in _MISSING:
        return NotFound("no such object", **facts)
    if code == "EntityTooLarge":
        return TooLarge(f"{detail}: it takes no object of this size", **facts)
    if code in _REPEATABLE or status >= 500 or status in (200, 408):  # 200: an error inside a success
        return StorageUnavailable(detail, **facts)
    return StorageRefused(detail, **facts)
