"""An upload to S3: one PUT for what fits a part, otherwise a multipart upload that a crash does not end."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog

from mediagen.core.errors import MediagenError, StorageUnavailable, TooLarge, UploadLost
from mediagen.core.owned_tasks import Finishing
from mediagen.core.presentation import OBJECT_CACHE, disposition, may_be_shown, served_type
from mediagen.storage.cleanup_deadlines import CleanupDeadlines
from mediagen.storage.object_keys import check_token
from mediagen.storage.s3.bucket import TOKEN, S3Bucket
from mediagen.storage.s3.calls import required
from mediagen.storage.s3.revocable import RevocableBody
from mediagen.streams.base import KIB, Body, PartReceipt, StoredPart
from mediagen.streams.parts import MAX_PARTS, part_size_for, range_part_size_for

log = structlog.get_logger()

_DISTANT: Final = 0.03
"""A store that takes longer than this (seconds) to announce an upload is far away: there, connections decide speed."""
_CHUNK: Final = 512 * KIB
"""Bytes read and sent at a time. The more parts share the loop, the smaller, so that a turn of it stays short."""
_SMALL_CHUNK: Final = 128 * KIB
_DISTANT_CHUNK: Final = 256 * KIB
_COMPLETE_SECONDS: Final = 600.0
"""Amazon documents that completing a large upload can take several minutes."""
_ABORT_SECONDS: Final = 5.0
_LAST_WORD_SECONDS: Final = 1.0
"""How long a sink that is left waits for an answer on its way: without it, it would not know what to remove."""


class S3Sink:
    """See ``streams.base.Sink``. ``open_sinks``: how many are open, this one included; the chunk size depends on it."""

    accepts_stream = False

    def __init__(
        self,
        bucket: S3Bucket,
        key: str,
        *,
        media_type: str,
        filename: str,
        token: str,
        size: int | None,
        parallel: bool,
        open_sinks: int,
        deadlines: CleanupDeadlines,
    ) -> None:
        settings = bucket.settings
        self._bucket = bucket
        self._deadlines = deadlines
        self._call = bucket.caller.call
        self._api = bucket.api
        self._key = key
        self._token = check_token(token)
        self._size = size
        self._parallel = parallel
        self._sends_checksums = settings.sends_checksums and not parallel
        self._about: dict[str, Any] = {
            **bucket.locate(key),
            # the URL of the object itself, or a CDN's, shows what it says here
            "ContentType": served_type(media_type),
            "ContentDisposition": disposition(filename, attachment=not may_be_shown(media_type)),
            "CacheControl": OBJECT_CACHE,
            "Metadata": {TOKEN: token},
        }
        self._upload_id: str | None = None
        self._in_parts = False
        self._may_be_visible = False
        self._calls = Finishing()
        self._detached = False
        self.accepts_ranges = not settings.sign_payload
        if parallel and size is not None:
            self.part_size = range_part_size_for(size, settings.part_bytes)
        else:
            self.part_size = part_size_for(size, settings.part_bytes)
        self.parts_in_flight = settings.parts_in_flight
        self.chunk_size = max(_SMALL_CHUNK, _CHUNK // max(1, open_sinks // 4))
        self.stored: dict[int, PartReceipt] = {}
        self.committed = False
        self.left_behind = False

    @property
    def state(self) -> Mapping[str, Any]:
        return {"key": self._key, "token": self._token, "upload_id": self._upload_id, "part_size": self.part_size}

    @property
    def _place(self) -> dict[str, Any]:
        return {**self._bucket.locate(self._key), "UploadId": self._upload_id}

    async def begin(self) -> None:
        if self._upload_id is None:
            await self._calls.see_through(self._announce())

    async def _announce(self) -> None:
        self._in_parts = True
        checksum = {"ChecksumAlgorithm": "CRC32"} if self._sends_checksums else {}
        started = time.monotonic()
        failures: list[MediagenError] = []
        answer = await self._call(
            self._api.create_multipart_upload,
            {**self._about, **checksum},
            creates=self._key,
            on_failure=failures.append,
        )
        self._upload_id = required(answer, "UploadId")
        if any(not failure.context.get("throttled") for failure in failures):
            await self._bucket.abort_uploads(self._key, but=self._upload_id)
        if self._parallel and time.monotonic() - started > _DISTANT:
            self.parts_in_flight = max(self.parts_in_flight, self._bucket.settings.distant_parts_in_flight)
            self.chunk_size = min(self.chunk_size, _DISTANT_CHUNK)

    async def resume(self, state: Mapping[str, Any]) -> None:
        """Take up the upload of an earlier run, with the parts that the store has of it."""
        self._upload_id = state.get("upload_id")
        self.part_size = int(state["part_size"])
        self._in_parts = True
        if self._upload_id is None:
            await self._bucket.abort(state)
            raise UploadLost("the earlier run had not started its upload yet")
        try:
            marker = 0
            while True:
                page = await self._call(self._api.list_parts, {**self._place, "PartNumberMarker": marker})
                for part in page.get("Parts", []):
                    self.stored[int(part["PartNumber"])] = PartReceipt(int(part["Size"]), str(part["ETag"]))
                if not page.get("IsTruncated"):
                    return
                before, marker = marker, int(page.get("NextPartNumberMarker", 0))
                if marker <= before:
                    raise StorageUnavailable("the store lists the same parts again and again")
        except UploadLost:
            if not await self._is_visible():
                raise
            self.committed = True  # the crash came between the store's commit and the row

    async def put_part(self, number: int, body: Body) -> StoredPart:
        if number > MAX_PARTS:
            raise TooLarge(f"longer than {MAX_PARTS} parts of {self.part_size} bytes, and its length was not announced")
        answer = await self._call(
            self._api.upload_part,
            {**self._place, "PartNumber": number, **self._checksum(body)},
            body=body,
            creates=self._key,
        )
        return StoredPart(number, len(body), body.crc32, required(answer, "ETag"))

    async def put_whole(self, body: Body) -> None:
        revocable = RevocableBody(body)
        try:
            await self._calls.see_through(self._put(revocable))
        except asyncio.CancelledError:
            if not revocable.revoke():
                await self._calls.stop(0)  # cut short it becomes no object; otherwise its answer is worth waiting for
            raise

    async def _put(self, body: Body) -> None:
        self._may_be_visible = True
        self._size = len(body)
        try:
            answer = await self._call(
                self._api.put_object, {**self._about, **self._checksum(body)}, body=body, creates=self._key
            )
            required(answer, "ETag")
        except StorageUnavailable as exc:
            await self._settle(exc)

    def _checksum(self, body: Body) -> dict[str, str]:
        """CRC-32 as S3 wants it: base64 of four bytes, most significant first. Only of what lies in a buffer."""
        if not self._sends_checksums:
            return {}
        return {"ChecksumCRC32": base64.b64encode(body.crc32.to_bytes(4, "big")).decode()}

    async def commit(self, parts: list[StoredPart], *, size: int, crc32: int) -> None:
        if self.committed:
            return
        if not self._in_parts:
            if not self._may_be_visible:
                raise RuntimeError("nothing was stored")
            self.committed = True
            return
        listed: list[dict[str, Any]] = []
        for part in parts:
            one: dict[str, Any] = {"PartNumber": part.number, "ETag": part.token}
            if self._sends_checksums:
                one["ChecksumCRC32"] = base64.b64encode(part.crc32.to_bytes(4, "big")).decode()
            listed.append(one)
        self._size = size
        await self._calls.see_through(self._complete(listed))
        self.committed = True

    async def _complete(self, listed: list[dict[str, Any]]) -> None:
        self._may_be_visible = True
        try:
            answer = await self._call(
                self._api.complete_multipart_upload,
                {**self._place, "MultipartUpload": {"Parts": listed}},
                deadline=_COMPLETE_SECONDS,
                creates=self._key,
            )
            required(answer, "ETag")
        except StorageUnavailable as exc:
            await self._settle(exc)

    async def _settle(self, exc: StorageUnavailable) -> None:
        """The answer may have been lost after the deed was done: look before believing it."""
        if not exc.retryable or not await self._is_visible():
            raise exc
        log.info("commit_settled", key=self._key, reason=exc.detail)

    async def _is_visible(self) -> bool:
        found = await self._bucket.head(self._key)
        return (
            found is not None
            and found.metadata.get(TOKEN) == self._token
            and (self._size is None or found.size in (None, self._size))
        )

    def detach(self) -> None:
        self._detached = True

    async def close(self) -> None:
        """Remove what is not to stay. Bounded: what cannot be removed now is said in ``left_behind``."""
        if self.committed:
            return
        await self._calls.stop(0 if self._detached else min(_LAST_WORD_SECONDS, self._deadlines.most))
        if self._detached:
            return
        try:
            async with self._deadlines.within(_ABORT_SECONDS):
                await self._remove()
        except (MediagenError, TimeoutError) as exc:
            self.left_behind = True
            log.warning("upload_left_behind", key=self._key, reason=str(exc))

    async def _remove(self) -> None:
        if self._in_parts:
            await self._bucket.abort(self.state)
        # a PUT or a completion may have been carried out although we never heard of it
        if self._may_be_visible:
            await self._bucket.delete_if_token(self._key, self._token)
