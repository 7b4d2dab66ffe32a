"""Routes of files."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from mediagen.core.errors import NotFound, StorageUnavailable
from mediagen.core.files import File, FileQuery
from mediagen.tasks.ports import Files
from mediagen.web.content import Content
from mediagen.web.origins import Origins
from mediagen.web.problems import PreconditionFailed, RangeNotSatisfiable
from mediagen.web.routing import Call, Empty, Reply, route
from mediagen.web.schemas import Download, FileFilter, FilePage, FileView
from mediagen.web.views import Views


class FileRoutes:
    """``/v1/files``."""

    def __init__(self, files: Files, content: Content, views: Views, origins: Origins) -> None:
        self._files = files
        self._content = content
        self._views = views
        self._origins = origins

    @route("GET", "/v1/files", "List files", query=FileFilter, answer=FilePage)
    async def list_files(self, call: Call[FileFilter, Empty]) -> FilePage:
        files, more = await self._files.query(
            FileQuery(
                kind=call.query.kind,
                limit=call.query.limit,
                after=call.query.after,
                descending=call.query.order == "desc",
            )
        )
        base = self._origins.base(call.request)
        return FilePage(
            data=[self._views.file(file, base) for file in files],
            has_more=more,
            first_id=files[0].id if files else None,
            last_id=files[-1].id if files else None,
        )

    @route("GET", "/v1/files/{id}", "Get what is known of a file", answer=FileView, fails=(NotFound,))
    async def get_file(self, call: Call[Empty, Empty]) -> FileView:
        return self._views.file(await self._file(call.id), self._origins.base(call.request))

    @route(
        "GET|HEAD",
        "/v1/files/{id}/content",
        "Get the bytes of a file, or a range of them",
        query=Download,
        fails=(NotFound, PreconditionFailed, RangeNotSatisfiable, StorageUnavailable),
        media_type="*/*",
        takes=("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"),
        gives=("ETag", "Accept-Ranges", "Content-Disposition"),
        also=(
            Reply(HTTPStatus.PARTIAL_CONTENT, "the range that was asked for", gives=("ETag", "Content-Range")),
            Reply(HTTPStatus.FOUND, "the bytes are there, by a link that expires", gives=("Location",)),
            Reply(HTTPStatus.NOT_MODIFIED, "the caller has these bytes", gives=("ETag",)),
        ),
    )
    async def get_content(self, call: Call[Download, Empty]) -> web.StreamResponse:
        return await self._content.respond(call.request, await self._file(call.id), download=call.query.download)

    async def _file(self, file_id: str) -> File:
        file = await self._files.get(file_id)
        if file is None:
            raise NotFound(f"no file {file_id}")
        return file
