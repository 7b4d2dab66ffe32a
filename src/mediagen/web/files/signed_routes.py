"""The route of signed links: no key is needed, the link is the permission."""

from __future__ import annotations

from aiohttp import web

from mediagen.core.errors import NotFound, StorageUnavailable, Unavailable
from mediagen.tasks.ports import Files
from mediagen.web.api.routing import Call, Empty, route
from mediagen.web.auth.signed_urls import DOWNLOAD, PATH, Links
from mediagen.web.files.responses import (
    CACHE_SECONDS,
    CONDITIONAL_HEADERS,
    CONTENT_HEADERS,
    CONTENT_REPLIES,
    FileResponses,
)
from mediagen.web.files.schemas import SignedUrlQuery
from mediagen.web.http.problems import LinkExpired, PreconditionFailed, RangeNotSatisfiable


class SignedUrlRoutes:
    """``/media``."""

    def __init__(self, files: Files, content: FileResponses, links: Links) -> None:
        self._files = files
        self._content = content
        self._links = links

    @route(
        "GET|HEAD",
        PATH,
        "Get a file's bytes through a signed link (a file's `url`)",
        query=SignedUrlQuery,
        fails=(LinkExpired, NotFound, PreconditionFailed, RangeNotSatisfiable, StorageUnavailable, Unavailable),
        media_type="*/*",
        takes=CONDITIONAL_HEADERS,
        gives=CONTENT_HEADERS,
        also=CONTENT_REPLIES,
        public=True,
    )
    async def get_media(self, call: Call[SignedUrlQuery, Empty]) -> web.StreamResponse:
        """The link is checked before anything is looked up."""
        link = call.query
        left = self._links.check(call.id, expires=link.expires, download=link.download, signature=link.signature)
        file = await self._files.get(call.id)
        if file is None:
            raise NotFound("the file of this link was deleted")
        return await self._content.respond(
            call.request, file, download=link.download == DOWNLOAD, cache_seconds=min(CACHE_SECONDS, left)
        )
