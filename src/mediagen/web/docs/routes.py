"""The API described by the server itself: for programs, and for people."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from mediagen.web.api.routing import Call, Empty, Reply, route
from mediagen.web.docs import html as reference
from mediagen.web.docs.openapi import Json, document

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(reference.STYLE.encode()).digest()).decode()
PAGE_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page has one style sheet, in it; nothing else may be loaded, run or sent."""

_SAME: Final = Reply(HTTPStatus.NOT_MODIFIED, "the client's copy is current", gives=("ETag",))


def not_found_page(path: str, base_path: str) -> web.Response:
    """The 404 that a browser shows: what it asked for is not here, and where the API is described."""
    page = reference.missing(path, base_path)
    headers = {"Content-Security-Policy": PAGE_POLICY}
    return web.Response(status=HTTPStatus.NOT_FOUND, text=page, content_type="text/html", headers=headers)


class DocumentRoutes:
    """``/openapi.json`` and ``/docs``, of the routes of ``owners`` and its own. Made when first asked for, once."""

    def __init__(self, owners: Iterable[type], *, base_path: str, keys_required: bool) -> None:
        self._keys_required = keys_required
        self._owners = (*owners, type(self))
        self._base_path = base_path

    @route(
        "GET|HEAD",
        "/openapi.json",
        "This API as an OpenAPI 3.1 document",
        takes=("If-None-Match",),
        gives=("ETag",),
        also=(_SAME,),
        public=True,
    )
    async def openapi(self, call: Call[Empty, Empty]) -> web.StreamResponse:
        data = await asyncio.to_thread(lambda: self._data)
        return _constant(call.request, data, "application/json")

    @route(
        "GET|HEAD",
        "/docs",
        "This API as a page",
        media_type="text/html",
        takes=("If-None-Match",),
        gives=("ETag",),
        also=(_SAME,),
        public=True,
    )
    async def docs(self, call: Call[Empty, Empty]) -> web.StreamResponse:
        data = await asyncio.to_thread(lambda: self._page)
        return _constant(call.request, data, "text/html", {"Content-Security-Policy": PAGE_POLICY})

    @cached_property
    def _document(self) -> Json:
        return document(self._owners, base_path=self._base_path, keys_required=self._keys_required)

    @cached_property
    def _data(self) -> bytes:
        return json.dumps(self._document, ensure_ascii=False, separators=(",", ":")).encode()

    @cached_property
    def _page(self) -> bytes:
        return reference.page(self._document).encode()


def _constant(
    request: web.Request, data: bytes, media_type: str, headers: dict[str, str] | None = None
) -> web.Response:
    """``data``, or 304 when the caller has it: to be asked for again, not to be sent again."""
    etag = hashlib.sha256(data).hexdigest()[:32]
    known = request.if_none_match or ()
    response = web.Response(headers={hdrs.CACHE_CONTROL: "no-cache", **(headers or {})})
    response.etag = etag
    if any(tag.value in {etag, "*"} for tag in known):
        response.set_status(HTTPStatus.NOT_MODIFIED)
        return response
    response.content_type, response.charset, response.body = media_type, "utf-8", data
    return response
