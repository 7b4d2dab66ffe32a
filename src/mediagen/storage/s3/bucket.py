"""Requests about the objects and uploads of one bucket, below the prefix of the settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from mediagen.core.errors import NotFound, StorageRefused, StorageUnavailable, UploadLost
from mediagen.storage.base import StoredObject
from mediagen.storage.object_keys import check_key
from mediagen.storage.s3.calls import S3Api, S3Caller
from mediagen.storage.s3.unconfirmed import UnconfirmedRequests
from mediagen.storage.settings import S3Settings

TOKEN: Final = "mediagen-token"  # noqa: S105 - the name of a field
"""Metadata field (``x-amz-meta-``) by which an uncertain commit is settled."""
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(?:\d+|\*)")


class S3Bucket:
    """The requests that the store and its sinks share. ``api`` makes them, ``caller`` repeats them.

    Every method may raise StorageUnavailable and its children.
    """

    def __init__(self, settings: S3Settings, api: S3Api, caller: S3Caller, unconfirmed: UnconfirmedRequests) -> None:
        self.settings = settings
        self.api = api
        self.caller = caller
        self._unconfirmed = unconfirmed

    def locate(self, key: str) -> dict[str, str]:
        """The arguments that name an object."""
        return {"Bucket": self.settings.bucket, "Key": self.settings.prefix + check_key(key)}

    async def head(self, key: str) -> StoredObject | None:
        try:
            answer = await self.caller.call(self.api.head_object, self.locate(key))
        except NotFound:
            return None
        return StoredObject(key, size_in(answer), answer.get("Metadata", {}))

    async def head_bucket(self) -> dict[str, Any]:
        return await self.caller.call(self.api.head_bucket, {"Bucket": self.settings.bucket})

    async def get(self, key: str, offset: int, length: int | None) -> dict[str, Any] | None:
        """The response with these bytes; None for an empty range, which ``Range`` cannot express (RFC 9110 14.1.1).

        Raises:
            NotFound: there is no such object.
        """
        if length == 0:
            if await self.head(key) is None:
                raise NotFound("no such object")
            return None
        whole = offset == 0 and length is None
        span = {} if whole else {"Range": f"bytes={offset}-{'' if length is None else offset + length - 1}"}
        try:
            answer = await self.caller.call(self.api.get_object, {**self.locate(key), **span})
        except StorageRefused as exc:
            if exc.context.get("status") != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            return None
        if span and "ContentRange" not in answer:
            answer["Body"].close()
            raise StorageRefused("the store does not support range requests")
        return answer

    async def delete(self, key: str) -> None:
        try:
            await self.caller.call(self.api.delete_object, self.locate(key))
        except NotFound:
            return

    async def delete_if_token(self, key: str, token: str) -> None:
        """Delete the object if its metadata carries ``token``; leave any other object alone.

        Amazon answers 403 instead of 404 to those who may not list the bucket, so 403 counts as "no such object".
        """
        try:
            found = await self.head(key)
        except StorageRefused as exc:
            if exc.context.get("status") != HTTPStatus.FORBIDDEN:
                raise
            return
        if found is not None and found.metadata.get(TOKEN) == token:
            await self.delete(key)

    async def abort(self, state: Mapping[str, Any]) -> None:
        """See ``Storage.abort``."""
        key, upload_id = str(state["key"]), state.get("upload_id")
        if upload_id:
            await self._abort_upload(key, str(upload_id))
        if not upload_id or state.get("every") or key in self._unconfirmed:
            await self.abort_uploads(key)

    async def _abort_upload(self, key: str, upload_id: str) -> None:
        """Abort, and repeat while parts that were in flight still arrive (S3 documents this race)."""
        upload = {**self.locate(key), "UploadId": upload_id}
        for _ in range(3):
            try:
                await self.caller.call(self.api.abort_multipart_upload, upload)
                await self.caller.call(self.api.list_parts, upload)
            except (NotFound, UploadLost):
                return
        raise StorageUnavailable("the store keeps an upload that was aborted three times", key=key)

    async def abort_uploads(self, key: str, *, but: str | None = None) -> None:
        """Abort all uploads of a key except ``but``: some may have been created without our seeing the response."""
        for upload_id in await self._list_uploads(key):
            if upload_id != but:
                await self._abort_upload(key, upload_id)

    async def _list_uploads(self, key: str) -> list[str]:
        place = self.locate(key)
        answer = await self.caller.call(
            self.api.list_multipart_uploads, {"Bucket": place["Bucket"], "Prefix": place["Key"]}
        )
        return [upload["UploadId"] for upload in answer.get("Uploads", []) if upload["Key"] == place["Key"]]


def size_in(answer: Mapping[str, Any]) -> int | None:
    """Bytes of the body that a response has, or would have to a GET; None where a proxy left the length out."""
    if "ContentLength" in answer:
        return int(answer["ContentLength"])
    of_range = _CONTENT_RANGE.fullmatch(str(answer.get("ContentRange", "")))
    return None if of_range is None else int(of_range[2]) - int(of_range[1]) + 1
