"""Objects in an S3-compatible bucket, through aiobotocore as it is.

Bodies are written piece by piece (``payload``), so nothing of a part is copied together; payloads are unsigned unless
asked for, because a streamed body cannot be hashed before it is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self, cast

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError

from mediagen import __version__
from mediagen.core.errors import StorageRefused
from mediagen.core.owned_tasks import Finishing
from mediagen.core.presentation import disposition, may_be_shown, served_type
from mediagen.net.retry import RetryPolicy
from mediagen.storage.base import StoredObject
from mediagen.storage.cleanup_deadlines import CleanupDeadlines
from mediagen.storage.s3.bucket import S3Bucket, size_in
from mediagen.storage.s3.calls import S3Api, S3Caller
from mediagen.storage.s3.dialer import StoreDialer
from mediagen.storage.s3.http import Expectations, session_class, watch
from mediagen.storage.s3.request_slots import RequestSlots
from mediagen.storage.s3.sink import S3Sink
from mediagen.storage.s3.source import EmptySource, ObjectGetter, open_object_body
from mediagen.storage.s3.unconfirmed import UnconfirmedRequests
from mediagen.storage.s3.uploader import IDLE_SECONDS, ObjectUploader
from mediagen.storage.settings import S3Settings
from mediagen.streams.base import Sink, Source, StoredPart

_CONNECTIONS: Final = 256
_LINK_CACHE: Final = "private, max-age=3600"
"""What comes by a link that expires is for the one who has it."""


class S3Storage:
    """A bucket, or the part of one below ``prefix``."""

    name = "s3"
    acts_late = True

    def __init__(self, settings: S3Settings) -> None:
        self.settings = settings
        self._bucket: S3Bucket
        self._stack = AsyncExitStack()
        self._sinks = 0
        self._finishing = Finishing()
        self._deadlines = CleanupDeadlines()
        self._unconfirmed = UnconfirmedRequests()
        self._expectations = Expectations()
        self.caller = S3Caller(
            unconfirmed=self._unconfirmed,
            expectations=self._expectations,
            policy=RetryPolicy(attempts=settings.attempts, base=0.2, cap=10.0),
            slots=RequestSlots(_CONNECTIONS),
            answer_seconds=settings.answer_seconds,
            minimum_rate=settings.minimum_bytes_per_second,
        )

    @property
    def accepts_ranges(self) -> bool:
        """Not when payloads are signed: to be signed a body has to be read before it is sent."""
        return not self.settings.sign_payload

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
                connector_args={"keepalive_timeout": IDLE_SECONDS},
            ),
        )
        try:
            opened = await self._stack.enter_async_context(client)
        except (BotoCoreError, ValueError) as exc:  # half of the credentials, an endpoint that is no URL
            raise StorageRefused(f"the settings under storage.s3 cannot be used: {exc}") from None
        opened.meta.events.register("before-call.s3.HeadBucket", _not_redirected)
        watch(opened.meta.events, self._expectations)
        dialer = StoreDialer(ca_file=settings.ca_file, seconds=settings.connect_seconds)
        objects = ObjectGetter(dialer, answer_seconds=settings.answer_seconds)
        opened.meta.events.register("before-send.s3.GetObject", objects.send)
        uploads = ObjectUploader(dialer, self._expectations, answer_seconds=settings.answer_seconds)
        self._stack.callback(uploads.close)
        for operation in ("PutObject", "UploadPart"):
            opened.meta.events.register(f"before-send.s3.{operation}", uploads.send)
        self._bucket = S3Bucket(settings, cast("S3Api", opened), self.caller, self._unconfirmed)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._finishing.wait()
        await self._stack.aclose()

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
        self._sinks += 1
        try:
            sink = S3Sink(
                self._bucket,
                key,
                media_type=media_type,
                filename=filename,
                token=token,
                size=size,
                parallel=parallel,
                open_sinks=self._sinks,
                deadlines=self._deadlines,
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
            self._sinks -= 1

    @asynccontextmanager
    async def open_source(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[Source]:
        answer = await self._bucket.get(key, offset, length)
        if answer is None:
            yield EmptySource()
            return
        async with open_object_body(answer, size_in(answer), self.settings.answer_seconds) as source:
            yield source

    async def head(self, key: str) -> StoredObject | None:
        return await self._bucket.head(key)

    async def delete(self, key: str) -> None:
        await self._bucket.delete(key)

    def in_doubt(self, key: str) -> bool:
        return key in self._unconfirmed

    async def abort(self, state: Mapping[str, Any]) -> None:
        await self._bucket.abort(state)

    async def remove(self, state: Mapping[str, Any]) -> None:
        await self.abort(state)
        await self._bucket.delete_if_token(str(state["key"]), str(state.get("token", "")))

    async def sweep(self, keep: Sequence[Mapping[str, Any]]) -> int:
        """Remove nothing: the bucket may be shared, so only uploads in our own records are removed, by ``abort``."""
        return 0

    def hurry(self, seconds: float) -> None:
        self._deadlines.hurry(seconds)

    async def check(self) -> None:
        await self._bucket.head_bucket()

    async def now(self) -> datetime | None:
        answer = await self._bucket.head_bucket()
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        try:
            return None if date is None else parsedate_to_datetime(date).astimezone(UTC)
        except ValueError:
            return None

    async def presign(self, key: str, *, ttl: int, filename: str, media_type: str, inline: bool) -> str:
        shown = inline and may_be_shown(media_type)
        return await self._bucket.api.generate_presigned_url(
            "get_object",
            Params={
                **self._bucket.locate(key),
                "ResponseContentType": served_type(media_type),
                "ResponseContentDisposition": disposition(filename, attachment=not shown),
                "ResponseCacheControl": _LINK_CACHE,
            },
            ExpiresIn=ttl,
        )


def _not_redirected(context: dict[str, Any], **_: Any) -> None:
    """Mark a request as redirected already.

    The library asks HeadBucket where to go after a 301 without a region; when HeadBucket is answered in the same way,
    it asks again, until the stack is full.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True
