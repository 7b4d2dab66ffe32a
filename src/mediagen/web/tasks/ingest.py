"""Route of ingest: any URL into the store, as a task; or content that comes in the request itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from pydantic import ConfigDict, Field, model_validator

from mediagen.core.errors import (
    InvalidBase64,
    QueueFull,
    StorageFull,
    StorageUnavailable,
    TooLarge,
    UnsupportedMedia,
    UrlNotAllowed,
)
from mediagen.core.files import File, new_id
from mediagen.core.tasks import Task
from mediagen.net.resource import clean_filename
from mediagen.pipelines.derive import derive
from mediagen.pipelines.ingest import IngestOptions, IngestSpec
from mediagen.pipelines.saving.request_upload import RequestUploads
from mediagen.streams.formats.sniff import SNIFF_BYTES
from mediagen.streams.json.media_fields import EmbeddedMedia
from mediagen.streams.json.scanner import Pointer, Rules
from mediagen.streams.sources import ChunkSource, PeekableSource
from mediagen.tasks.requests import asked_of_webhook, fingerprint_of
from mediagen.tasks.service import TaskService
from mediagen.web.api.routing import Answer, Call, Empty, route, validate
from mediagen.web.api.schemas import Priority, TaskView, without_empty
from mediagen.web.api.views import Views
from mediagen.web.api.webhook_targets import Notified, WebhookTargets
from mediagen.web.http.body import BodyLimits, json_chunks, require_json
from mediagen.web.http.body_source import incoming
from mediagen.web.http.problems import BodyStalled
from mediagen.web.settings import ServerSettings
from mediagen.web.tasks.routes import TASK_HEADER, task_answer

DATA: Final[Pointer] = ("data",)
_KEY: Final = "Idempotency-Key"


class IngestRequest(IngestOptions, Notified):
    """What to store and under which name. Give exactly one of ``url`` and ``data``."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["url"], "properties": {"url": {"type": "string"}, "data": {"type": "null"}}},
                {
                    "required": ["data"],
                    "properties": {"data": {"type": "string"}, "url": {"type": "null"}, "field": {"type": "null"}},
                },
            ]
        }
    )

    data: str | None = Field(
        None,
        description="content as base64 or a data: URI, of any length; stored while it arrives, so the task in the "
        "response is already completed",
    )
    priority: Priority = 50
    timeout_seconds: float | None = Field(None, gt=0, description="time limit of one attempt")

    @model_validator(mode="before")
    @classmethod
    def _nothing_empty(cls, fields: Any) -> Any:
        return without_empty(fields, "url", "data")

    @model_validator(mode="after")
    def _one_source(self) -> IngestRequest:
        if (self.url is None) == (self.data is None):
            raise ValueError("give either url or data")
        if self.data is not None and self.field is not None:
            raise ValueError("field can only be used with url")
        return self


class IngestBody:
    """The JSON body of an ingest request. Base64 in ``data`` is decoded while it arrives, whatever its place."""

    def __init__(self, body: AsyncIterator[bytes], rules: Rules) -> None:
        self._media = EmbeddedMedia(body, DATA, rules)
        self.content = PeekableSource(ChunkSource(self._media.chunks(required=False)))

    async def has_content(self) -> bool:
        """Whether there is ``data``. If there is none, all of the body has been read.

        Raises:
            InvalidRequest, InvalidBase64, TooLarge: also while ``content`` is read.
        """
        await self.content.peek(SNIFF_BYTES)
        return self._media.found

    @property
    def media_type(self) -> str | None:
        """What a ``data:`` URI declares; known once some content has been read."""
        return self._media.media_type

    @property
    def document(self) -> Any:
        """The body with an empty text as ``data``; known once all of the content has been read."""
        return self._media.document


class IngestRoutes:
    """``/v1/ingest``."""

    def __init__(
        self,
        service: TaskService,
        uploads: RequestUploads,
        views: Views,
        settings: ServerSettings,
        targets: WebhookTargets,
    ) -> None:
        self._service = service
        self._uploads = uploads
        self._views = views
        self._settings = settings
        self._targets = targets

    @route(
        "POST",
        "/v1/ingest",
        "Store a file from a URL or from base64",
        body=IngestRequest,
        answer=TaskView,
        status=HTTPStatus.ACCEPTED,
        fails=(UrlNotAllowed, QueueFull, InvalidBase64, TooLarge, BodyStalled, StorageUnavailable, StorageFull),
        streamed=True,
        takes=("Idempotency-Key",),
        gives=("Location", "Retry-After", TASK_HEADER),
    )
    async def ingest(self, call: Call[Empty, IngestRequest]) -> Answer:
        """A queued task for ``url``; a completed one for ``data``."""
        request = call.request
        require_json(request)
        rules = Rules(self._settings.max_json_bytes, self._settings.max_json_values, strict=True)
        with incoming(request, BodyLimits.of(self._settings)) as source:
            body = IngestBody(json_chunks(source), rules)
            task = await (self._save(call, body) if await body.has_content() else self._submit(call, body))
        return await self._answer(call, task)

    async def _submit(self, call: Call[Empty, IngestRequest], body: IngestBody) -> Task:
        """The queued task of a ``url``."""
        wanted = validate(IngestRequest, body.document)
        return await self._service.submit(
            "ingest",
            derive(IngestSpec, wanted),
            priority=wanted.priority,
            timeout_seconds=wanted.timeout_seconds,
            owner=call.caller.owner,
            key=call.request.headers.get(_KEY),
            webhook=self._targets.of(wanted, call.base),
        )

    async def _save(self, call: Call[Empty, IngestRequest], body: IngestBody) -> Task:
        """The completed task of ``data``; or that of the same request under the same key, and the new file is removed.

        The content is stored before the fields behind it in the body are known.
        """
        task_id, owner = new_id("task"), call.caller.owner
        with self._uploads.slot(call.network):
            async with self._uploads.receive(
                body.content, filename="", declared=body.media_type, owner=owner, task_id=task_id, decoded=True
            ) as pending:
                wanted = validate(IngestRequest, body.document)
                file = _as_wanted(pending.file, wanted)
                webhook = self._targets.of(wanted, call.base)
                asked: dict[str, Any] = wanted.model_dump(mode="json", include={"kind", "filename"}, exclude_none=True)
                content = {"bytes": file.bytes, "checksum": file.checksum.value}
                task = await self._service.submit_done(
                    "ingest",
                    {**asked, "data": f"[{file.bytes} bytes]"},
                    result={"file": file.id},
                    files=(file,),
                    task_id=task_id,
                    owner=owner,
                    key=call.request.headers.get(_KEY),
                    fingerprint=fingerprint_of({**asked, **asked_of_webhook(webhook), **content}),
                    webhook=webhook,
                )
                if task.id == task_id:
                    pending.claim()
        return task

    async def _answer(self, call: Call[Any, Any], task: Task) -> Answer:
        view = await self._views.task(task, call.base)
        answer = task_answer(task, view)
        return Answer(view, headers={**answer.headers, "Location": self._views.path(f"/v1/tasks/{task.id}")})


def _as_wanted(file: File, wanted: IngestRequest) -> File:
    """The file under the name that the request gives it. Raises UnsupportedMedia: it is of another kind."""
    if wanted.kind is not None and wanted.kind is not file.kind:
        raise UnsupportedMedia(f"a file of kind {wanted.kind} was requested, but this is {file.media_type}")
    return replace(file, filename=clean_filename(wanted.filename or "") or file.filename)
