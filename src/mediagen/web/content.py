"""Sending the bytes of a file: by the kernel from disk, or by a short link to the store."""

from __future__ import annotations

import asyncio
import os
import time
from http import HTTPStatus
from io import FileIO
from pathlib import PurePath
from typing import Final, TypeAlias
from urllib.parse import quote

from aiohttp import hdrs, web

from mediagen.core.errors import MediagenError, NotFound
from mediagen.core.files import File, FileKind
from mediagen.storage.base import HasLocalPaths, PresignsUrls
from mediagen.streams.base import KIB, MIB
from mediagen.web.ranges import Validators, unchanged, wanted_range

Served: TypeAlias = HasLocalPaths | PresignsUrls
"""A store that can give content to clients, one way or the other."""

_INLINE_IMAGES: Final = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "image/heic", "image/heif"}
)
_MIN_SLICE: Final = 256 * KIB
_MAX_SLICE: Final = 2 * MIB
_QUICK_SECONDS: Final = 1.0


def inline(file: File) -> bool:
    """Whether a browser may show it in a page of ours: raster images, video, audio. Never what can hold a script."""
    if file.kind is FileKind.IMAGE:
        return file.media_type in _INLINE_IMAGES
    return file.kind in {FileKind.VIDEO, FileKind.AUDIO} and file.media_type.startswith(("video/", "audio/"))


def disposition(file: File, *, as_attachment: bool) -> str:
    """``Content-Disposition`` with the name in both forms of RFC 6266."""
    kind = "attachment" if as_attachment else "inline"
    name = PurePath(file.filename).name or file.id
    plain = "".join(char if " " <= char <= "~" and char not in '"\\%' else "_" for char in name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


class Content:
    """Answers requests for the bytes of files.

    ``stall_seconds``: a reader that takes nothing for that long is cut off.
    """

    def __init__(self, store: Served, *, url_ttl_seconds: int, stall_seconds: float, shared: bool) -> None:
        self._store = store
        self._url_ttl_seconds = url_ttl_seconds
        self._stall_seconds = stall_seconds
        self._resource_policy = "cross-origin" if shared else "same-site"

    async def respond(self, request: web.Request, file: File, *, download: bool) -> web.StreamResponse:
        """The file, a range of it, 302 to where it is, or 304.

        Raises:
            PreconditionFailed, RangeNotSatisfiable
            NotFound: the bytes are gone.
        """
        as_attachment = download or not inline(file)
        validators = Validators(file.etag, file.created_at)
        if isinstance(self._store, HasLocalPaths):
            return await self._from_disk(request, file, validators, as_attachment, self._store.path_of(file.key))
        if request.method == "HEAD":
            return web.Response(headers=self._headers(file, validators, as_attachment, file.bytes))
        location = await self._store.presign(
            file.key,
            ttl=self._url_ttl_seconds,
            filename=file.filename,
            media_type=file.media_type,
            inline=not as_attachment,
        )
        return web.Response(
            status=HTTPStatus.FOUND, headers={hdrs.LOCATION: location, hdrs.CACHE_CONTROL: "private, no-store"}
        )

    def _headers(self, file: File, validators: Validators, as_attachment: bool, length: int) -> dict[str, str]:
        return {
            hdrs.CONTENT_TYPE: file.media_type if inline(file) else "application/octet-stream",
            hdrs.CONTENT_LENGTH: str(length),
            hdrs.CONTENT_DISPOSITION: disposition(file, as_attachment=as_attachment),
            hdrs.ACCEPT_RANGES: "bytes",
            hdrs.ETAG: f'"{validators.etag}"',
            hdrs.LAST_MODIFIED: validators.last_modified,
            hdrs.CACHE_CONTROL: "private, max-age=3600",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cross-Origin-Resource-Policy": self._resource_policy,
        }

    async def _from_disk(
        self, request: web.Request, file: File, validators: Validators, as_attachment: bool, path: str
    ) -> web.StreamResponse:
        if unchanged(request.headers, validators):
            headers = self._headers(file, validators, as_attachment, 0)
            del headers[hdrs.CONTENT_TYPE], headers[hdrs.CONTENT_LENGTH]
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        part = wanted_range(request.headers, validators, file.bytes) if request.method == "GET" else None
        wanted = range(file.bytes) if part is None else part
        handle = await asyncio.to_thread(_open, path, file)
        try:
            response = web.StreamResponse(headers=self._headers(file, validators, as_attachment, len(wanted)))
            if part is not None:
                response.set_status(HTTPStatus.PARTIAL_CONTENT)
                response.headers[hdrs.CONTENT_RANGE] = f"bytes {part.start}-{part.stop - 1}/{file.bytes}"
            await response.prepare(request)
            if request.method != "HEAD":
                await self._send(request, response, handle, wanted)
            await response.write_eof()
        finally:
            await asyncio.to_thread(handle.close)
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse, handle: FileIO, wanted: range) -> None:
        """Send slices, each within ``stall_seconds``; they grow for quick readers and shrink for slow ones."""
        loop = asyncio.get_running_loop()
        at, size = wanted.start, _MIN_SLICE
        while at < wanted.stop:
            transport = request.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the reader went away")
            length = min(size, wanted.stop - at)
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._stall_seconds):
                    try:
                        sent = await loop.sendfile(transport, handle, at, length)
                    except NotImplementedError:  # a loop without it, such as uvloop
                        sent = await _copy(response, handle, at, length)
            except TimeoutError:
                transport.abort()
                raise ConnectionResetError(f"the reader took nothing for {self._stall_seconds:g} s") from None
            if not sent:
                transport.abort()
                raise ConnectionResetError("the file became shorter while it was sent")
            at += sent
            size = min(_MAX_SLICE, size * 2) if time.monotonic() - began < _QUICK_SECONDS else _MIN_SLICE


async def _copy(response: web.StreamResponse, handle: FileIO, at: int, length: int) -> int:
    data = await asyncio.to_thread(os.pread, handle.fileno(), length, at)
    await response.write(data)
    return len(data)


def _open(path: str, file: File) -> FileIO:
    """The open file; never through a link, and only with the size that the row promises. Blocks."""
    try:
        handle = FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    except FileNotFoundError:
        raise NotFound(f"the bytes of {file.id} are gone") from None
    size = os.fstat(handle.fileno()).st_size
    if size != file.bytes:
        handle.close()
        raise MediagenError("a stored file has not its size", file_id=file.id, expected=file.bytes, found=size)
    return handle
