"""Ingest: any URL into the store.

    open ─▶ head sniffed, kind and limit known ─▶ plan saved ─▶ range lane or buffer lane ─▶ commit ─▶ File

A transfer in ranges survives a crash: its plan, its upload and its parts are saved as it goes. Without ranges there is
nothing to go on from, so a broken transfer starts over, as often as ``fetch.attempts`` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from mediagen.core.errors import (
    DeadlineExceeded,
    FetchFailed,
    MediagenError,
    SourceChanged,
    TooLarge,
    UploadLost,
)
from mediagen.core.files import FileKind
from mediagen.core.progress import Progress, Transfer
from mediagen.net.download import Download, Fetcher, HttpRangeReader
from mediagen.net.policy import check_text
from mediagen.net.resource import clean_filename
from mediagen.pipelines.base import Outcome, Run
from mediagen.pipelines.keep import Keeping, Plan, remove
from mediagen.pipelines.quota import Reservation
from mediagen.streams.base import MIB, Sink, Source
from mediagen.streams.completeness import Whole
from mediagen.streams.digest import combined_crc32
from mediagen.streams.embedded import EmbeddedMedia, chunks_of
from mediagen.streams.jsonfield import parse_pointer
from mediagen.streams.meter import Meter
from mediagen.streams.sniff import SNIFF_BYTES
from mediagen.streams.sources import ChunkSource, Limited, Peeked
from mediagen.streams.transfer import Moved, move_buffered, move_ranges, still_stored

log = structlog.get_logger()

RANGES_FROM: Final = 16 * MIB
"""Bytes from which parallel ranges are worth a second connection."""


class IngestSpec(BaseModel):
    """What to bring in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, StringConstraints(min_length=1, max_length=4096, strip_whitespace=True)]
    field: str | None = None
    kind: FileKind | None = None
    filename: str | None = Field(default=None, max_length=255)

    @field_validator("url")
    @classmethod
    def _allowed(cls, url: str) -> str:
        check_text(url)
        return url

    @field_validator("field")
    @classmethod
    def _is_pointer(cls, field: str | None) -> str | None:
        if field is not None:
            parse_pointer(field)
        return field


class _StartOver(Exception):
    """The transfer broke where it cannot go on; trying it from the start may help."""

    def __init__(self, cause: MediagenError) -> None:
        super().__init__(cause.detail)
        self.cause = cause


class IngestPipeline:
    """Fits ``pipelines.base.Pipeline``."""

    kind = "ingest"
    lane = "ingest"
    spec = IngestSpec

    def __init__(self, fetcher: Fetcher, keeping: Keeping) -> None:
        self._fetcher = fetcher
        self._keep = keeping

    async def run(self, spec: IngestSpec, run: Run, /) -> Outcome:
        seconds = self._fetcher.settings.total_seconds
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self._until_done(spec, run)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(f"the download took longer than {seconds:g} s") from None

    async def abandon(self, checkpoint: Mapping[str, Any], /) -> None:
        await remove(self._keep.storage, checkpoint)

    async def discard(self, outcome: Outcome, /) -> None:
        for file in outcome.files:
            await self._keep.storage.delete(file.key)

    async def _until_done(self, spec: IngestSpec, run: Run) -> Outcome:
        saved: Mapping[str, Any] = run.resume
        failures = 0
        while True:
            try:
                return await self._once(spec, run, saved)
            except _StartOver as again:
                failures += 1
                if failures >= self._fetcher.retry.attempts:
                    raise again.cause from None
                delay = self._fetcher.retry.delay(failures, again.cause.retry_after)
                log.info("transfer_started_over", failures=failures, reason=again.cause.detail)
                await asyncio.sleep(delay)
                await remove(self._keep.storage, saved)  # what this attempt stored itself is gone already
                saved = {}

    async def _once(self, spec: IngestSpec, run: Run, saved: Mapping[str, Any]) -> Outcome:
        run.report(Progress("connecting"))
        async with self._fetcher.open(spec.url) as download:
            try:
                if spec.field is not None:
                    return await self._field(spec, run, download, saved)
                plan = Plan.make(
                    download.head,
                    declared=download.resource.media_type,
                    filename=clean_filename(spec.filename or download.resource.filename),
                    wanted=spec.kind,
                )
                self._check_size(plan, download.resource.size)
                ranges = download.resource.resumable and self._keep.storage.takes_ranges
                if not ranges or download.size < RANGES_FROM:
                    return await self._sequential(run, plan, download, saved)
                return await self._ranges(run, plan, download, saved)
            except UploadLost as exc:
                raise _StartOver(exc) from None
            except FetchFailed as exc:
                # what can be resumed has been tried again where it broke
                if not exc.retryable or (download.resource.resumable and not isinstance(exc, SourceChanged)):
                    raise
                raise _StartOver(exc) from None

    def _check_size(self, plan: Plan, size: int | None) -> None:
        limit = self._keep.limits.for_kind(plan.kind)
        if size is not None and size > limit:
            raise TooLarge(f"{size} bytes announced; at most {limit} are taken for a file of kind {plan.kind}")

    async def _with_room(self, size: int | None, move: Callable[[Reservation], Awaitable[Outcome]]) -> Outcome:
        """What ``move`` makes in its room of the store, which the outcome holds. Raises StorageFull."""
        room = await self._keep.quota.reserve(size)
        try:
            outcome = await move(room)
        except BaseException:
            room.release()
            raise
        return replace(outcome, release=room.release)

    # -- range lane

    async def _ranges(self, run: Run, plan: Plan, download: Download, saved: Mapping[str, Any]) -> Outcome:
        readers = await download.readers()
        if readers is None:
            return await self._sequential(run, plan, download, saved)
        return await self._with_room(download.size, lambda _room: self._by_ranges(run, plan, download, saved, readers))

    async def _by_ranges(
        self,
        run: Run,
        plan: Plan,
        download: Download,
        saved: Mapping[str, Any],
        readers: list[HttpRangeReader],
    ) -> Outcome:
        resource = download.resource
        about = {"size": resource.size, "validator": resource.validator}
        earlier = Plan.from_checkpoint(saved) if saved else None
        resumes = earlier is not None and earlier.upload is not None and earlier.source == about
        if earlier is not None and resumes:
            plan = earlier
        else:
            await self._begin_anew(run, plan, saved)
        recorded = await run.parts() if resumes else []
        async with self._keep.storage.open_sink(
            plan.key,
            media_type=plan.stored_type,
            filename=plan.filename,
            token=plan.token,
            size=download.size,
            parallel=True,
            resume=plan.upload if resumes else None,
            recorded=recorded,
        ) as sink:
            try:
                if sink.committed:
                    if sum(part.size for part in recorded) != download.size:
                        raise UploadLost("the stored object is not the one that was recorded")
                    moved = Moved(download.size, combined_crc32(recorded), None, recorded)
                    return self._outcome(run, plan, moved)
                await sink.begin()
                plan = Plan.from_checkpoint({**plan.as_checkpoint(), "upload": dict(sink.state), "source": about})
                await run.checkpoint(plan.as_checkpoint())
                moved = await self._move_ranges(run, download, sink, readers, resumes)
                return await self._commit(run, plan, sink, moved)
            except asyncio.CancelledError:
                if run.stopping:  # the next start goes on from the parts that are there
                    sink.detach()
                raise

    async def _move_ranges(
        self, run: Run, download: Download, sink: Sink, readers: list[HttpRangeReader], resumes: bool
    ) -> Moved:
        done = still_stored(await run.parts(), sink) if resumes else []
        already = sum(part.size for part in done)
        meter = Meter(_reporter(run), total=download.size, already=already, tally=self._keep.tally)
        if done:
            log.info("transfer_resumed", parts=len(done), bytes=meter.already)
        return await move_ranges(
            download,
            sink,
            readers=readers,
            meter=meter,
            done=done,
            record=run.record_part,
            workers=self._fetcher.workers(download.resource, sink.parts_in_flight),
            threads=self._keep.threads,
        )

    # -- buffer lane

    async def _sequential(self, run: Run, plan: Plan, download: Download, saved: Mapping[str, Any]) -> Outcome:
        source: Source = download.sequential()
        if source.size is None:
            source = Whole(source, plan.media_type)
        await self._begin_anew(run, plan, saved)
        return await self._buffered(run, plan, source)

    async def _field(self, spec: IngestSpec, run: Run, download: Download, saved: Mapping[str, Any]) -> Outcome:
        """The base64 text of one field of the JSON document that the URL gives."""
        media = EmbeddedMedia(chunks_of(download.sequential()), parse_pointer(spec.field or ""))
        source = Peeked(ChunkSource(media.chunks()))
        head = await source.peek(SNIFF_BYTES)
        plan = Plan.make(
            head, declared=media.media_type, filename=clean_filename(spec.filename or ""), wanted=spec.kind
        )
        await self._begin_anew(run, plan, saved)
        return await self._buffered(run, plan, source)

    async def _buffered(self, run: Run, plan: Plan, source: Source) -> Outcome:
        return await self._with_room(source.size, lambda room: self._by_buffers(run, plan, source, room))

    async def _by_buffers(self, run: Run, plan: Plan, source: Source, room: Reservation) -> Outcome:
        keep = self._keep
        async with keep.storage.open_sink(
            plan.key, media_type=plan.stored_type, filename=plan.filename, token=plan.token, size=source.size
        ) as sink:

            async def begun() -> None:
                await run.checkpoint(plan.with_upload(sink.state).as_checkpoint())

            moved = await move_buffered(
                room.around(Limited(source, keep.limits.for_kind(plan.kind))),
                sink,
                pool=keep.pool,
                meter=Meter(_reporter(run), total=source.size, tally=keep.tally),
                threads=keep.threads,
                sha256_mode=keep.sha256,
                on_begin=begun,
            )
            return await self._commit(run, plan, sink, moved)

    # -- both

    async def _begin_anew(self, run: Run, plan: Plan, saved: Mapping[str, Any]) -> None:
        """Say where this run will write, after what an earlier one left is gone."""
        await remove(self._keep.storage, saved)
        await run.checkpoint(plan.as_checkpoint())

    async def _commit(self, run: Run, plan: Plan, sink: Sink, moved: Moved) -> Outcome:
        await sink.commit(moved.parts, size=moved.size, crc32=moved.crc32)
        return self._outcome(run, plan, moved)

    def _outcome(self, run: Run, plan: Plan, moved: Moved) -> Outcome:
        file = plan.file(moved, task_id=run.task_id, owner=run.owner)
        return Outcome({"file": file.id}, (file,))


def _reporter(run: Run) -> Any:
    def report(transfer: Transfer) -> None:
        phase = "downloading" if transfer.stage == "download" else "uploading"
        run.report(Progress(phase, transfer.percent, transfer, transfer.remaining_seconds))

    return report
