"""A pipeline that does what a test tells it to, so that the edge can be watched at each step of a task."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from mediagen.core.errors import MediagenError
from mediagen.core.files import Checksum, File, FileKind, new_id
from mediagen.core.progress import Progress, Transfer
from mediagen.pipelines.base import Outcome, Run
from mediagen.storage.base import Storage
from mediagen.streams.digest import crc32
from mediagen.streams.parts import BufferBody


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


@dataclass
class Stage:
    """One run, in the test's hands."""

    run: Run
    end: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def report(self, percent: int) -> None:
        self.run.report(Progress("storing", percent, Transfer(percent, percent, 100, 10.0)))

    def succeed(self, outcome: Outcome | None = None) -> None:
        self.end.set_result(outcome or Outcome({"note": "done"}))

    def fail(self, error: MediagenError) -> None:
        self.end.set_exception(error)


class Scripted:
    """Stands in for ingest: each task waits for the test."""

    kind = "ingest"
    lane = "ingest"
    spec = Anything

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._stages: dict[str, Stage] = {}
        self._begun = asyncio.Condition()

    async def stage(self, task_id: str, attempt: int = 1) -> Stage:
        """The run of that attempt, as soon as it has begun."""
        async with asyncio.timeout(10), self._begun:
            await self._begun.wait_for(lambda: task_id in self._stages and self._stages[task_id].run.attempt == attempt)
        return self._stages[task_id]

    async def run(self, spec: Any, run: Run, /) -> Outcome:
        stage = Stage(run)
        async with self._begun:
            self._stages[run.task_id] = stage
            self._begun.notify_all()
        return await stage.end

    async def abandon(self, checkpoint: Mapping[str, Any], /) -> None:
        raise AssertionError("nothing was saved that could be abandoned")

    async def discard(self, outcome: Outcome, /) -> None:
        for file in outcome.files:
            await self.storage.delete(file.key)

    async def store(
        self, data: bytes, *, task_id: str, media_type: str, filename: str, kind: FileKind = FileKind.OTHER
    ) -> Outcome:
        """An outcome whose file really is in the store."""
        file_id, token = new_id("file"), new_id("up")
        key = f"{file_id[5:7]}/{file_id[5:]}"
        async with self.storage.open_sink(key, media_type=media_type, token=token, size=len(data)) as sink:
            body = BufferBody(memoryview(data))
            await sink.put_whole(body)
            await sink.commit([], size=len(data), crc32=crc32(data))
        file = File(
            id=file_id,
            key=key,
            filename=filename,
            bytes=len(data),
            media_type=media_type,
            kind=kind,
            checksum=Checksum("crc32", f"{crc32(data):08x}"),
            created_at=datetime.now(UTC),
            etag=f"{crc32(data):08x}-{file_id[5:13]}",
            task_id=task_id,
        )
        return Outcome({"file": file.id}, (file,))
