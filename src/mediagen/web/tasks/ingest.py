"""Route of ingest: any URL into the store, as a task; or content that comes in the request itself."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from mediagen.core.errors import InvalidBase64, QueueFull, StorageFull, StorageUnavailable, TooLarge, UrlNotAllowed
from mediagen.core.files import File, FileKind, new_id
from mediagen.core.tasks import Task
from mediagen.core.webhooks import Webhook
from mediagen.pipelines.saving.inline_base64 import BodyIntake, Received
from mediagen.streams.json.scanner import Rules
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


class IngestRequest(Notified):
    """What to bring in, and how to keep it. Exactly one of ``url`` and ``data``."""

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

    url: Annotated[str, StringConstraints(min_length=1, max_length=4096, strip_whitespace=True)] | None = Field(
        None, description="what to fetch, http or https"
    )
    data: str | None = Field(
        None,
        description="content in base64 or as a data: URI, of any length; it is stored while it arrives, so that the "
        "task is completed when it is answered",
    )
    field: str | None = Field(
        None,
        max_length=1024,
        description="JSON pointer (RFC 6901): the answer of the URL is JSON, keep the base64 text found there",
    )
    kind: FileKind | None = Field(None, description="what it must be; other content is refused")
    filename: str | None = Field(None, min_length=1, max_length=255, description="the name to keep it by")
    priority: Priority = 50
    timeout_seconds: float | None = Field(None, gt=0, description="limit of one attempt")

    @model_validator(mode="before")
    @classmethod
    def _nothing_empty(cls, fields: Any) -> Any:
        return without_empty(fields, "url", "data")

    @model_validator(mode="after")
    def _one_source(self) -> IngestRequest:
        if (self.url is None) == (self.data is None):
            raise ValueError("give either url or data")
        if self.data is not None and self.field is not None:
            raise ValueError("field goes with url")
        return self


class _DoneBefore(Exception):
    """The same request came before, under the same key: ``task`` is what it made."""

    def __init__(self, task: Task) -> None:
        super().__init__(task.id)
        self.task = task


class IngestRoutes:
    """``/v1/ingest``."""

    def __init__(
        self,
        service: TaskService,
        intake: BodyIntake,
        views: Views,
        settings: ServerSettings,
        targets: WebhookTargets,
    ) -> None:
        self._service = service
        self._intake = intake
        self._views = views
        self._settings = settings
        self._targets = targets

    @route(
        "POST",
        "/v1/ingest",
        "Bring a file into the store",
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
        key = request.headers.get("Idempotency-Key")
        task_id = new_id("task")
        rules = Rules(self._settings.max_json_bytes, self._settings.max_json_values, strict=True)
        try:
            with incoming(request, BodyLimits.of(self._settings)) as body:
                async with self._intake.receive(
                    json_chunks(body),
                    task_id=task_id,
                    rules=rules,
                    network=call.network,
                    owner=call.caller.owner,
                ) as received:
                    wanted = validate(IngestRequest, received.document)
                    webhook = self._targets.of(wanted, call.base)
                    if received.file is None:
                        task = await self._submit(wanted, call.caller.owner, key, webhook)
                    else:
                        task = await self._record(wanted, received, received.file, task_id, key, webhook)
        except _DoneBefore as earlier:
            task = earlier.task
        return await self._answer(call, task)

    async def _submit(self, wanted: IngestRequest, owner: str | None, key: str | None, webhook: Webhook | None) -> Task:
        return await self._service.submit(
            "ingest",
            wanted.model_dump(mode="json", include={"url", "field", "kind", "filename"}, exclude_none=True),
            priority=wanted.priority,
            timeout_seconds=wanted.timeout_seconds,
            owner=owner,
            key=key,
            webhook=webhook,
        )

    async def _record(
        self,
        wanted: IngestRequest,
        received: Received,
        stored: File,
        task_id: str,
        key: str | None,
        webhook: Webhook | None,
    ) -> Task:
        """The completed task. Raises _DoneBefore, whereupon what was stored now is removed."""
        file = received.named(wanted.filename, wanted.kind)
        asked: dict[str, Any] = wanted.model_dump(mode="json", include={"kind", "filename"}, exclude_none=True)
        task = await self._service.submit_done(
            "ingest",
            {**asked, "data": f"[{file.bytes} bytes]"},
            result={"file": file.id},
            files=(file,),
            task_id=task_id,
            owner=stored.owner,
            key=key,
            fingerprint=fingerprint_of(
                {**asked, **asked_of_webhook(webhook), "bytes": stored.bytes, "checksum": stored.checksum.value}
            ),
            webhook=webhook,
        )
        if task.id != task_id:
            raise _DoneBefore(task)
        return task

    async def _answer(self, call: Call[Any, Any], task: Task) -> Answer:
        view = await self._views.task(task, call.base)
        answer = task_answer(task, view)
        return Answer(view, headers={**answer.headers, "Location": self._views.path(f"/v1/tasks/{task.id}")})
