"""Routes of files."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from aiohttp import web

from mediagen.core.errors import NotFound, StorageUnavailable, Unavailable
from mediagen.core.files import File, FileQuery
from mediagen.tasks.deletions import Deletions
from mediagen.tasks.ports import Files
from mediagen.web.api.routing import Answer, Call, Empty, route
from mediagen.web.api.schemas import FileView
from mediagen.web.api.views import Views
from mediagen.web.files.responses import CONDITIONAL_HEADERS, CONTENT_HEADERS, CONTENT_REPLIES, FileResponses
from mediagen.web.files.schemas import ContentQuery, FileFilter, FilePage, FileViewQuery
from mediagen.web.http.problems import PreconditionFailed, RangeNotSatisfiable


class FileRoutes:
    """``/v1/files``, without what brings them in."""

    def __init__(self, files: Files, deletions: Deletions, content: FileResponses, views: Views) -> None:
        self._files = files
        self._deletions = deletions
        self._content = content
        self._views = views

    @route("GET", "/v1/files", "List files", query=FileFilter, answer=FilePage)
    async def list_files(self, call: Call[FileFilter, Empty]) -> FilePage:
        files, more = await self._files.query(
            FileQuery(
                kind=call.query.kind,
                limit=call.query.limit,
                after=call.query.after,
                descending=call.query.order == "desc",
                owner=call.caller.sees,
            )
        )
        base = call.base
        return FilePage(
            data=[self._views.file(file, base) for file in files],
            has_more=more,
            first_id=files[0].id if files else None,
            last_id=files[-1].id if files else None,
        )

    @route(
        "GET",
        "/v1/files/{id}",
        "Get a file's metadata",
        query=FileViewQuery,
        answer=FileView,
        fails=(NotFound, StorageUnavailable),
    )
    async def get_file(self, call: Call[FileViewQuery, Empty]) -> FileView:
        file, download = await self._file(call), call.query.download
        view = self._views.file(file, call.base, download=download)
        if call.query.url_mode == "presigned":
            url, ends = await self._content.presigned(file, download=download)
            view = view.model_copy(update={"url": url, "url_expires_at": ends})
        return view

    @route(
        "GET|HEAD",
        "/v1/files/{id}/content",
        "Get a file's bytes, whole or in ranges",
        query=ContentQuery,
        fails=(NotFound, PreconditionFailed, RangeNotSatisfiable, StorageUnavailable, Unavailable),
        media_type="*/*",
        takes=CONDITIONAL_HEADERS,
        gives=CONTENT_HEADERS,
        also=CONTENT_REPLIES,
        older="/files/{id}",
    )
    async def get_content(self, call: Call[ContentQuery, Empty]) -> web.StreamResponse:
        return await self._content.respond(call.request, await self._file(call), download=call.query.download)

    @route(
        "DELETE",
        "/v1/files/{id}",
        "Delete a file",
        status=HTTPStatus.NO_CONTENT,
        fails=(NotFound, StorageUnavailable),
    )
    async def delete_file(self, call: Call[Empty, Empty]) -> Answer:
        await self._deletions.delete_file(await self._file(call))
        return Answer(None)

    async def _file(self, call: Call[Any, Empty]) -> File:
        file = await self._files.get(call.id, owner=call.caller.sees)
        if file is None:
            raise NotFound(f"no file {call.id}")
        return file
