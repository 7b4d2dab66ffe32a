"""Objects in an S3-compatible bucket, through aiobotocore as it is.

Bodies are written piece by piece (``payload``), so nothing of a part is copied together; payloads are unsigned unless
asked for, because a streamed body cannot be hashed before it is sent.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, Self, cast
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError

from mediagen import __version__
from mediagen.core.errors import NotFound, StorageRefused, StorageUnavailable, UploadLost
from mediagen.core.owned_tasks import Finishing
from mediagen.core.presentation import disposition, may_be_shown, served_type
from mediagen.net.retry import RetryPolicy
from mediagen.storage.base import StoredObject
from mediagen.storage.cleanup_deadlines import CleanupDeadlines
from mediagen.storage.object_keys import check_key
from mediagen.storage.s3.calls import S3Api, S3Caller
from mediagen.storage.s3.concurrency_limit import AdaptiveLimit
from mediagen.storage.s3.http import Expectations, session_class, watch
from mediagen.storage.s3.sink import TOKEN, S3Sink
from mediagen.storage.s3.source import EmptySource, ObjectGetter, open_object_body
from mediagen.storage.s3.unconfirmed import UnconfirmedRequests
from mediagen.storage.settings import S3Settings
from mediagen.streams.base import Sink, Source, StoredPart

_CONNECTIONS: Final = 256
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(?:\d+|\*)")
_LINK_CACHE: Final = "private, max-age=3600"
"""What comes by a link that expires is for the one who has it."""


class S3Storage:
    """A bucket, or the part of one below ``prefix``."""

    name = "s3"
    acts_late = True

    def __init__(self, settings: S3Settings) -> None:
        self.settings = settings
        self._stack = AsyncExitStack()
        self.api: S3Api
        self.sinks = 0
        self._finishing = Finishing()
        self.limits = CleanupDeadlines()
        self._outstanding = UnconfirmedRequests()
        self._expectations = Expectations()
        self.caller = S3Caller(
            outstanding=self._outstanding,
            expectations=self._expectations,
            policy=RetryPolicy(attempts=settings.attempts, base=0.2, cap=10.0),
            limit=AdaptiveLimit(_CONNECTIONS),
            answer_seconds=settings.answer_seconds,
            minimum_rate=settings.minimum_bytes_per_second,
        )

    @property
    def accepts_ranges(self) -> bool:
        """Not when payloads are signed: to be signed a body has to be read before it is sent."""
        return not self.settings.sign_payload

    @property
    def checksums(self) -> bool:
        """Whether buffered bodies carry a CRC-32 header; stores other than Amazon's often refuse it."""
        if self.settings.checksum != "auto":
            return self.settings.checksum == "crc32"
        host = urlsplit(self.settings.endpoint_url).hostname or "amazonaws.com"
        return host.endswith(("amazonaws.com", "amazonaws.com.cn"))

    async def __aenter__(self) -> Self:
        settings = self.settings
        if not settings.bucket:
            raise StorageRefused("storage.s3.bucket is not set")
        path_style = settings.path_style == "always" or (settings.path_style == "auto" and bool(settings.endpoint_url))
        secret = settings.secret_access_key.get_secret_value()
        client = get_session().create_client(
            "s3",
            endpoint_url=settings.endpoint_url or None,
            region_name=settings.region,
            aws_access_key_id=settings.access_key_id or None,
            aws_secret_access_key=secret or None,
            verify=settings.ca_file or None,
            config=AioConfig(
                signature_version="s3v4",
                s3={
                    # with an endpoint_url, the library's "auto" would be "path"
                    "addressing_style": "path" if path_style else "virtual",
                    "payload_signing_enabled": settings.sign_payload,
                },
                retries={"mode": "standard", "total_max_attempts": 1},
                connect_timeout=settings.connect_seconds,
                read_timeout=settings.answer_seconds,
                max_pool_connections=_CONNECTIONS,
                user_agent=f"mediagen/{__version__}",  # the library's own is composed anew for every request
                parameter_validation=False,  # every call is ours; saves a tenth of its time
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                http_session_cls=session_class(self._expectations),
                connector_args={"keepalive_timeout": 10},  # below what stores keep idle connections for
            ),
        )
        try:
            opened = await self._stack.enter_async_context(client)
        except (BotoCoreError, ValueError) as exc:  # half of the credentials, an endpoint that is no URL
            raise StorageRefused(f"the settings under storage.s3 cannot be used: {exc}") from None
        opened.meta.events.register("before-call.s3.HeadBucket", _not_redirected)
        watch(opened.meta.events, self._expectations)
        getter = ObjectGetter(
            ca_file=settings.ca_file, connect_seconds=settings.connect_seconds, answer_seconds=settings.answer_seconds
        )
        opened.meta.events.register("before-send.s3.GetObject", getter.send)
        self.api = cast("S3Api", opened)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._finishing.wait()
        await self._stack.aclose()

    def place(self, key: str) -> dict[str, str]:
        """The arguments that name an object."""
        return {"Bucket": self.settings.bucket, "Key": self.settings.prefix + check_key(key)}

    @asynccontextmanager
    async def open_sink(
        self,
        key: str,
        *,
        media_type: str,
        token: str,
        size: int | None,
        filename: str = "",
        parallel: bool = False,
        resume: Mapping[str, Any] | None = None,
        recorded: Sequence[StoredPart] = (),
    ) -> AsyncIterator[Sink]:
        self.sinks += 1
        try:
            sink = S3Sink(
                self, key, media_type=media_type, filename=filename, token=token, size=size, parallel=parallel
            )
            if resume is not None:
                await sink.resume(resume)
            try:
                yield sink
            finally:
                if (
                    not sink.committed
                ):  # a cancel here would come after the commit, and its caller not hear of the object
                    await self._finishing.see_through(sink.close())
        finally:
            self.sinks -= 1

    @asynccontextmanager
    async def open_source(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[Source]:
        answer = await self._get(key, offset, length)
        if answer is None:
            yield EmptySource()
            return
        async with open_object_body(answer, _size_of(answer), self.settings.answer_seconds) as source:
            yield source

    async def _get(self, key: str, offset: int, length: int | None) -> dict[str, Any] | None:
        """The answer with these bytes, or None when there are none: a ``Range`` cannot say so (RFC 9110 14.1.1)."""
        if length == 0:
            if await self.head(key) is None:
                raise NotFound("no such object")
            return None
        whole = offset == 0 and length is None
        span = {} if whole else {"Range": f"bytes={offset}-{'' if length is None else offset + length - 1}"}
        try:
            answer = await self.caller.call(self.api.get_object, {**self.place(key), **span})
        except StorageRefused as exc:
            if exc.context.get("status") != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            return None
        if span and "ContentRange" not in answer:
            answer["Body"].close()
            raise StorageRefused("the store gives no ranges of objects")
        return answer

    async def head(self, key: str) -> StoredObject | None:
        try:
            answer = await self.caller.call(self.api.head_object, self.place(key))
        except NotFound:
            return None
        return StoredObject(key, _size_of(answer), answer.get("Metadata", {}))

    async def delete(self, key: str) -> None:
        try:
            await self.caller.call(self.api.delete_object, self.place(key))
        except NotFound:
            return

    def in_doubt(self, key: str) -> bool:
        return key in self._outstanding

    async def abort(self, state: Mapping[str, Any]) -> None:
        key, upload_id = str(state["key"]), state.get("upload_id")
        if upload_id:
            await self._abort(key, str(upload_id))
        if not upload_id or state.get("every") or self.in_doubt(key):
            await self.abort_others(key)

    async def abort_others(self, key: str, but: str | None = None) -> None:
        """Abort the uploads of a key, all but one: there may be some that were announced without our hearing of it."""
        for one in await self._uploads_of(key):
            if one != but:
                await self._abort(key, one)

    async def remove(self, state: Mapping[str, Any]) -> None:
        await self.abort(state)
        await self.delete_own(str(state["key"]), str(state.get("token", "")))

    async def delete_own(self, key: str, token: str) -> None:
        """Delete the object if it carries this token; that of others stays.

        Amazon answers 403 instead of 404 to those who may not list the bucket: what cannot be seen is not there.
        """
        try:
            found = await self.head(key)
        except StorageRefused as exc:
            if exc.context.get("status") != HTTPStatus.FORBIDDEN:
                raise
            return
        if found is not None and found.metadata.get(TOKEN) == token:
            await self.delete(key)

    async def _abort(self, key: str, upload_id: str) -> None:
        """Abort, and again while parts that were on their way have come in after it (S3 documents this race)."""
        place = {**self.place(key), "UploadId": upload_id}
        for _ in range(3):
            try:
                await self.caller.call(self.api.abort_multipart_upload, place)
                await self.caller.call(self.api.list_parts, place)
            except (NotFound, UploadLost):
                return
        raise StorageUnavailable("the store keeps an upload that was aborted three times", key=key)

    async def _uploads_of(self, key: str) -> list[str]:
        place = self.place(key)
        answer = await self.caller.call(
            self.api.list_multipart_uploads, {"Bucket": place["Bucket"], "Prefix": place["Key"]}
        )
        return [upload["UploadId"] for upload in answer.get("Uploads", []) if upload["Key"] == place["Key"]]

    async def sweep(self, keep: Sequence[Mapping[str, Any]]) -> int:
        """Remove nothing: the bucket may be shared, so only uploads in our own records are removed, by ``abort``."""
        return 0

    def hurry(self, seconds: float) -> None:
        self.limits.hurry(seconds)

    async def check(self) -> None:
        await self.caller.call(self.api.head_bucket, {"Bucket": self.settings.bucket})

    async def now(self) -> datetime | None:
        answer = await self.caller.call(self.api.head_bucket, {"Bucket": self.settings.bucket})
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        try:
            return None if date is None else parsedate_to_datetime(date).astimezone(UTC)
        except ValueError:
            return None

    async def presign(self, key: str, *, ttl: int, filename: str, media_type: str, inline: bool) -> str:
        shown = inline and may_be_shown(media_type)
        return await self.api.generate_presigned_url(
            "get_object",
            Params={
                **self.place(key),
                "ResponseContentType": served_type(media_type),
                "ResponseContentDisposition": disposition(filename, attachment=not shown),
                "ResponseCacheControl": _LINK_CACHE,
            },
            ExpiresIn=ttl,
        )


def _size_of(answer: Mapping[str, Any]) -> int | None:
    """Bytes of the body that an answer has, or would have to a GET; None where a proxy left the length out."""
    if "ContentLength" in answer:
        return int(answer["ContentLength"])
    of_range = _CONTENT_RANGE.fullmatch(str(answer.get("ContentRange", "")))
    return None if of_range is None else int(of_range[2]) - int(of_range[1]) + 1


def _not_redirected(context: dict[str, Any], **_: Any) -> None:
    """Mark a request as redirected already.

    The library asks HeadBucket where to go after a 301 without a region; when HeadBucket is answered in the same way,
    it asks again, until the stack is full.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True
