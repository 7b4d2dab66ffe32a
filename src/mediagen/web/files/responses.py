"""Answering for the bytes of a file: by condition and range, from here or by a short link to the store."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from mediagen.core.clock import utc_now
from mediagen.core.errors import InvalidRequest
from mediagen.core.files import File
from mediagen.core.presentation import disposition
from mediagen.storage.base import HasLocalPaths, PresignsUrls, Storage
from mediagen.web.api.routing import Reply
from mediagen.web.files.file_senders import DiskSender, FileSender, StoreSender
from mediagen.web.http.conditional import Validators, range_holds, unchanged
from mediagen.web.http.ranges import Multipart, content_range, wanted_ranges
from mediagen.web.http.response_writer import ResponseWriter

CACHE_SECONDS: Final = 3600
"""How long a browser may keep a file; it asks again by ETag after that."""

CONDITIONAL_HEADERS: Final = (
    "Range",
    "If-Range",
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
)
CONTENT_HEADERS: Final = ("ETag", "Accept-Ranges", "Content-Disposition")
CONTENT_REPLIES: Final = (
    Reply(HTTPStatus.PARTIAL_CONTENT, "the requested ranges", gives=("ETag", "Content-Range")),
    Reply(HTTPStatus.FOUND, "the bytes are at this link, which expires", gives=("Location",)),
    Reply(HTTPStatus.NOT_MODIFIED, "the client's copy is current", gives=("ETag",)),
)
"""What the declaration of a route that answers with content says of it."""


@dataclass(frozen=True, slots=True)
class _Body:
    """What is sent: ranges, each with what stands before it, and what comes after the last."""

    parts: tuple[tuple[bytes, range], ...]
    tail: bytes = b""
    status: HTTPStatus = HTTPStatus.OK

    @property
    def length(self) -> int:
        return sum(len(head) + len(part) for head, part in self.parts) + len(self.tail)


class FileResponses:
    """Answers requests for the bytes of files.

    ``threads`` send what is on disk. ``redirect``: send clients to a store that they can reach, by a link that lives
    ``url_ttl_seconds``; otherwise every byte comes through us. ``stall_seconds``: a reader that takes nothing for that
    long is cut off. ``shared``: pages of other sites may use the files.
    """

    def __init__(
        self,
        storage: Storage,
        threads: Executor,
        *,
        redirect: bool,
        url_ttl_seconds: int,
        stall_seconds: float,
        shared: bool,
    ) -> None:
        self._delivery: FileSender
        if isinstance(storage, HasLocalPaths):
            self._delivery = DiskSender(storage, threads)
        else:
            self._delivery = StoreSender(storage)
        self._presigns = storage if isinstance(storage, PresignsUrls) else None
        self._elsewhere = self._presigns if redirect else None
        self._url_ttl_seconds = url_ttl_seconds
        self._stall_seconds = stall_seconds
        self._resource_policy = "cross-origin" if shared else "same-site"

    @property
    def streams(self) -> int:
        """Files that are on their way through us from a store."""
        return self._delivery.streams if isinstance(self._delivery, StoreSender) else 0

    async def respond(
        self, request: web.Request, file: File, *, download: bool, cache_seconds: int = CACHE_SECONDS
    ) -> web.StreamResponse:
        """The file, ranges of it, 302 to where it is, or 304.

        Raises:
            PreconditionFailed, RangeNotSatisfiable
            NotFound: the bytes are gone.
            StorageUnavailable, Unavailable
        """
        head = request.method == "HEAD"
        if self._elsewhere is not None and not head:
            # conditions and ranges are for the one who sends the bytes (RFC 9110 section 13.2.1)
            return await self._redirect(self._elsewhere, file, download=download)
        validators = Validators(file.etag, file.created_at)
        headers = self._headers(file, validators, download=download, cache_seconds=cache_seconds)
        if unchanged(request.headers, validators):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        headers[hdrs.CONTENT_TYPE] = file.served_type
        body = _whole(file) if head else _wanted(request, file, validators, headers)
        headers[hdrs.CONTENT_LENGTH] = str(body.length)
        async with self._delivery.open(file, None if head else body.parts[0][1]) as opened:
            response = web.StreamResponse(status=body.status, headers=headers)
            await response.prepare(request)
            async with ResponseWriter(request, response, stall_seconds=self._stall_seconds) as reader:
                if not head:
                    for before, part in body.parts:
                        await reader.write(before)
                        await opened.send(part, reader)
                    await reader.write(body.tail)
                await reader.finish()
        return response

    def _headers(self, file: File, validators: Validators, *, download: bool, cache_seconds: int) -> dict[str, str]:
        """What is said of the file whichever bytes of it are sent."""
        return {
            hdrs.CONTENT_DISPOSITION: disposition(
                file.filename.rpartition("/")[2] or file.id, attachment=download or not file.shown
            ),
            hdrs.ACCEPT_RANGES: "bytes",
            hdrs.ETAG: f'"{validators.etag}"',
            hdrs.LAST_MODIFIED: validators.last_modified,
            hdrs.CACHE_CONTROL: f"private, max-age={cache_seconds}",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cross-Origin-Resource-Policy": self._resource_policy,
        }

    async def _redirect(self, store: PresignsUrls, file: File, *, download: bool) -> web.Response:
        headers = {
            hdrs.LOCATION: await self._presigned(store, file, download=download),
            hdrs.CACHE_CONTROL: "private, no-store",
            hdrs.REFERRER_POLICY: "no-referrer",
        }
        return web.Response(status=HTTPStatus.FOUND, headers=headers)

    async def presigned(self, file: File, *, download: bool) -> tuple[str, datetime]:
        """The bucket's own link to a file, and when it ends. Raises InvalidRequest where the store has none."""
        if self._presigns is None:
            raise InvalidRequest("this store has no presigned links; leave out url_mode", field="url_mode")
        ends = utc_now().replace(microsecond=0) + timedelta(seconds=self._url_ttl_seconds)
        return await self._presigned(self._presigns, file, download=download), ends

    async def _presigned(self, store: PresignsUrls, file: File, *, download: bool) -> str:
        return await store.presign(
            file.key,
            ttl=self._url_ttl_seconds,
            filename=file.filename,
            media_type=file.served_type,
            inline=file.shown and not download,
        )


def _whole(file: File) -> _Body:
    return _Body(((b"", range(file.bytes)),))


def _wanted(request: web.Request, file: File, validators: Validators, headers: dict[str, str]) -> _Body:
    """The body that the request asks for; a partial one is told of in ``headers``."""
    given = request.headers.getall(hdrs.RANGE, [])
    ranges = None
    if len(given) == 1 and range_holds(request.headers, validators):
        ranges = wanted_ranges(given[0], file.bytes)
    if ranges is None:
        return _whole(file)
    if len(ranges) == 1:  # one must not be sent as multipart when one was asked for (RFC 9110 section 15.3.7.2)
        headers[hdrs.CONTENT_RANGE] = content_range(ranges[0], file.bytes)
        return _Body(((b"", ranges[0]),), status=HTTPStatus.PARTIAL_CONTENT)
    several = Multipart.make(ranges, media_type=file.served_type, size=file.bytes)
    headers[hdrs.CONTENT_TYPE] = several.content_type
    return _Body(several.parts, several.tail, HTTPStatus.PARTIAL_CONTENT)
