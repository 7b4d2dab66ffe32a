"""Responses with images: as URLs, as base64, or as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from mediagen.core.errors import MediagenError, NotFound, first_cause
from mediagen.core.files import File
from mediagen.core.tasks import Task, TaskStatus
from mediagen.pipelines.previews import Preview, Previews, PreviewWatcher
from mediagen.storage.base import Storage
from mediagen.tasks.ports import Files
from mediagen.web.api.routing import Answer, Call
from mediagen.web.api.views import Views
from mediagen.web.http.json_output import text_as_json
from mediagen.web.http.problems import openai_error
from mediagen.web.openai_compat import base64_json
from mediagen.web.openai_compat.image_schemas import ImageGenerateRequest, ImagesResponse
from mediagen.web.openai_compat.submission import TaskSubmitter, error_from_task
from mediagen.web.tasks.routes import TASK_HEADER

HEARTBEAT_SECONDS: Final = 10.0


class ImageResponses:
    """Waits for the task of a call and responds with its images."""

    def __init__(
        self,
        submitter: TaskSubmitter,
        files: Files,
        storage: Storage,
        views: Views,
        previews: Previews,
        *,
        inline_bytes: int,
    ) -> None:
        """``inline_bytes``: the largest image sent as base64 too to a caller that did not choose a format."""
        self._inline_bytes = inline_bytes
        self._submitter = submitter
        self._files = files
        self._storage = storage
        self._views = views
        self._previews = previews

    async def respond(
        self, call: Call[Any, Any], body: ImageGenerateRequest, task: Task
    ) -> Answer | web.StreamResponse:
        """Respond once the images are stored. Raises the task's failure."""
        task = await self._submitter.wait(task, call.caller)
        if task.status is not TaskStatus.COMPLETED:
            raise error_from_task(task)
        files = await self._get_files(task)
        document = self._build_document(call.base, body, task, files)
        headers = {TASK_HEADER: task.id}
        if any(self._is_inline(body, file) for file in files):
            return await base64_json.respond(
                call.request, document, base64_json.file_contents(files, self._storage), headers
            )
        return Answer(ImagesResponse(**document), headers=headers)

    async def stream(
        self, call: Call[Any, Any], body: ImageGenerateRequest, task: Task, event: str
    ) -> web.StreamResponse:
        """Stream heartbeats as comments, previews where the model has them, then each image; errors are events too.

        ``event`` is the prefix of the events' names.
        """
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.headers[TASK_HEADER] = task.id
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        with self._previews.watch(task.id) as watcher:
            await response.prepare(call.request)
            ended = await self._stream_until_ended(call, watcher, response, task, body, f"{event}.partial_image")
        try:
            if ended.status is not TaskStatus.COMPLETED:
                raise error_from_task(ended)
            files = await self._get_files(ended)
        except MediagenError as exc:
            await response.write(f"event: error\ndata: {text_as_json(openai_error(exc))}\n\n".encode())
        else:
            await self._write_images(call.base, response, body, ended, files, f"{event}.completed")
        await response.write_eof()
        return response

    async def _stream_until_ended(
        self,
        call: Call[Any, Any],
        watcher: PreviewWatcher,
        response: web.StreamResponse,
        task: Task,
        body: ImageGenerateRequest,
        name: str,
    ) -> Task:
        """The task once it has ended; until then, stream heartbeats and previews."""
        try:
            async with asyncio.TaskGroup() as group:
                ending = group.create_task(self._submitter.wait(task, call.caller))
                ending.add_done_callback(lambda _: watcher.wake())
                while True:
                    while (preview := watcher.pop()) is not None:
                        await self._write_preview(response, preview, task, body, name)
                    if ending.done():
                        return ending.result()
                    await response.write(f": {task.id}\n\n".encode())
                    await watcher.wait(HEARTBEAT_SECONDS)
        except* ConnectionError as gone:  # the client went away; the task goes on
            raise first_cause(gone) from None

    async def _write_preview(
        self, response: web.StreamResponse, preview: Preview, task: Task, body: ImageGenerateRequest, name: str
    ) -> None:
        try:
            document = {
                "type": name,
                "b64_json": base64_json.placeholder(0),
                "partial_image_index": preview.number,
                "created_at": int(task.created_at.timestamp()),
                "size": body.size or "auto",
                "quality": body.quality or "auto",
                "background": body.background or "auto",
                "output_format": body.output_format or "png",
            }
            await self._write_event(response, name, document, [base64_json.Base64Content(preview.size, preview.open)])
        finally:
            preview.release()

    async def _write_images(
        self,
        base: str,
        response: web.StreamResponse,
        body: ImageGenerateRequest,
        task: Task,
        files: Sequence[File],
        name: str,
    ) -> None:
        media = base64_json.file_contents(files, self._storage)
        document = self._build_document(base, body, task, files)
        told = ("size", "quality", "background", "output_format", "usage", "ignored", "adapted")
        about = {name: document[name] for name in told}
        for index, image in enumerate(document["data"]):
            event = {
                **about,
                **{name: value for name, value in image.items() if value is not None},
                "type": name,
                "created_at": int(task.created_at.timestamp()),
                "b64_json": base64_json.placeholder(index),
            }
            await self._write_event(response, name, event, media)

    async def _write_event(
        self,
        response: web.StreamResponse,
        name: str,
        document: dict[str, Any],
        media: Sequence[base64_json.Base64Content],
    ) -> None:
        await response.write(f"event: {name}\ndata: ".encode())
        await base64_json.write(document, media, response)
        await response.write(b"\n\n")

    def _is_inline(self, body: ImageGenerateRequest, file: File) -> bool:
        """Whether to send the image as base64 too: some clients read only that, others only the URL."""
        if body.response_format is None:
            return file.bytes <= self._inline_bytes
        return body.response_format == "b64_json"

    async def _get_files(self, task: Task) -> list[File]:
        """The files of a completed task. Raises NotFound: one has been deleted."""
        files = [await self._files.get(file_id) for file_id in (task.result or {}).get("files", ())]
        if None in files:
            raise NotFound("an image of this task was deleted", task_id=task.id)
        return [file for file in files if file is not None]

    def _build_document(
        self, base: str, body: ImageGenerateRequest, task: Task, files: Sequence[File]
    ) -> dict[str, Any]:
        """The response, with placeholders for base64."""
        result = task.result or {}
        reported = result.get("reported", {})
        data = []
        for index, file in enumerate(files):
            view = self._views.file(file, base)
            inline = base64_json.placeholder(index) if self._is_inline(body, file) else None
            image = {"url": view.url, "file_id": file.id, "b64_json": inline}
            data.append({**image, "revised_prompt": result.get("revised_prompts", {}).get(str(index))})
        return {
            "created": int(task.created_at.timestamp()),
            "data": data,
            "model": result.get("model", ""),
            "task_id": task.id,
            "size": _text_or_none(reported.get("size")) or _size_of(files),
            "quality": _text_or_none(reported.get("quality")),
            "background": _text_or_none(reported.get("background")),
            "output_format": _text_or_none(reported.get("output_format")),
            "usage": result.get("usage"),
            "cost_usd": result.get("cost_usd"),
            "metadata": task.request.get("metadata"),
            "ignored": result.get("ignored", []),
            "adapted": result.get("adapted", {}),
        }


def _text_or_none(value: object) -> str | None:
    """What a provider reported, if it is text as it should be."""
    return value if isinstance(value, str) else None


def _size_of(files: Sequence[File]) -> str | None:
    first = files[0] if files else None
    return f"{first.width}x{first.height}" if first is not None and first.width and first.height else None
