"""Routes by which files come in as they are: a raw body, or a form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from mediagen.core.errors import InvalidRequest, StorageFull, StorageUnavailable, TooLarge, UnsupportedMedia
from mediagen.core.files import File
from mediagen.pipelines.saving.request_upload import RequestUploads
from mediagen.streams.base import Source
from mediagen.tasks.ports import Files
from mediagen.tasks.requests import fingerprint_of, scoped
from mediagen.web.api.routing import Answer, Call, Empty, route
from mediagen.web.api.schemas import FileView
from mediagen.web.api.views import Views
from mediagen.web.http.body import BodyLimits
from mediagen.web.http.body_source import Incoming, incoming
from mediagen.web.http.forms import FIELD, Form
from mediagen.web.http.problems import BodyStalled, EncodedBody
from mediagen.web.settings import ServerSettings

FILENAME_HEADER: Final = "X-Filename"
_MAX_NAME: Final = 4096
_EXTENDED: Final = re.compile(r"utf-8'[^']*'", re.IGNORECASE)
_UNASKED: Final = "application/x-www-form-urlencoded"
"""What curl says of a body of which it knows nothing."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way in."""

    filename: str
    media_type: str | None
    content: Source


class UploadRoutes:
    """``POST /v1/files``."""

    def __init__(self, files: Files, uploads: RequestUploads, views: Views, settings: ServerSettings) -> None:
        self._files = files
        self._uploads = uploads
        self._views = views
        self._settings = settings

    @route(
        "POST",
        "/v1/files",
        "Upload a file, as the body or in a form's `file` field",
        answer=FileView,
        status=HTTPStatus.CREATED,
        fails=(TooLarge, BodyStalled, UnsupportedMedia, EncodedBody, StorageUnavailable, StorageFull),
        streamed=True,
        file_field=FIELD,
        takes=(FILENAME_HEADER, "Idempotency-Key"),
        gives=("Location",),
        older="/files",
    )
    async def upload(self, call: Call[Empty, Empty]) -> Answer:
        """The file, stored and recorded."""
        request, owner = call.request, call.caller.owner
        key = scoped(request.headers.get("Idempotency-Key"), "upload", owner)
        with (
            self._uploads.slot(call.network),
            incoming(request, BodyLimits.of(self._settings)) as body,
        ):
            file = await self._save(await self._begin(request, body), owner, key)
        view = self._views.file(file, call.base)
        return Answer(view, headers={"Location": self._views.path(f"/v1/files/{file.id}")})

    async def _save(self, upload: Upload, owner: str | None, key: str | None) -> File:
        """The file, stored and recorded; or that of the same upload under the same key, and this one is removed."""
        async with self._uploads.receive(
            upload.content, filename=upload.filename, declared=upload.media_type, owner=owner
        ) as pending:
            stored = pending.file
            asked = {"name": upload.filename, "type": stored.media_type, "checksum": stored.checksum.value}
            file = await self._files.insert(stored, key=key, fingerprint=fingerprint_of(asked))
            if file is stored:
                pending.claim()
        return file

    async def _begin(self, request: web.Request, body: Incoming) -> Upload:
        """What the request brings; of a raw body no byte has been read yet."""
        media_type = request.headers.get("Content-Type", "")
        claimed = media_type.partition(";")[0].strip().lower()
        if claimed == "multipart/form-data":
            max_rest = self._settings.max_json_bytes
            self._check_length(request, self._uploads.max_bytes + max_rest)
            file = await Form(body, media_type, max_rest=max_rest).file()
            return Upload(decode_form_filename(file.filename), file.media_type, file)
        if claimed.startswith("multipart/"):
            raise UnsupportedMedia(f"send the file itself or multipart/form-data, not {claimed[:60]!r}")
        self._check_length(request, self._uploads.max_bytes)
        name = parse_filename(request.headers.get(FILENAME_HEADER, ""))
        declared = None if claimed == _UNASKED else media_type
        return Upload(name, declared, body)

    def _check_length(self, request: web.Request, most: int) -> None:
        if request.content_length is not None and request.content_length > most:
            raise TooLarge(f"{request.content_length} bytes announced, but at most {most} are accepted")


def parse_filename(value: str) -> str:
    """A file name out of ``X-Filename``: percent-encoded UTF-8, or an extended value as in RFC 8187 (``UTF-8''…``).

    Raises:
        InvalidRequest: it is not UTF-8, or too long.
    """
    if len(value) > _MAX_NAME:
        raise InvalidRequest(f"{FILENAME_HEADER} is longer than {_MAX_NAME} characters", field=FILENAME_HEADER)
    try:
        name = unquote(_EXTENDED.sub("", value, count=1) if _EXTENDED.match(value) else value, errors="strict")
        name.encode()  # bytes of a header that are not UTF-8 come as lone surrogates
    except UnicodeError:
        raise InvalidRequest(f"{FILENAME_HEADER} is not percent-encoded UTF-8", field=FILENAME_HEADER) from None
    return name


def decode_form_filename(value: str) -> str:
    """A file name as a form has it. Clients encode all of it, quotes alone, or nothing (RFC 7578 section 2)."""
    try:
        return unquote(value, errors="strict")
    except UnicodeError:
        return value
