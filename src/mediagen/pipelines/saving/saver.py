"""Bytes from wherever they are into the store, as one attempt of a task.

    open ─▶ head sniffed, kind and limit known ─▶ plan saved ─▶ range lane or buffer lane ─▶ commit ─▶ File

A transfer in ranges survives a crash: its plan, its upload and its parts are saved as it goes. Without ranges there is
nothing to go on from, so a broken transfer starts over, as often as ``fetch.attempts`` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import structlog

from mediagen.core.errors import (
    DeadlineExceeded,
    FetchFailed,
    MediagenError,
    RangesUnreliable,
    SourceChanged,
    TooLarge,
    UploadLost,
)
from mediagen.core.files import FileKind
from mediagen.core.progress import Progress, Transfer
from mediagen.net.download import Download, Fetcher, refuses_ranges
from mediagen.net.range_reader import HttpRangeReader
from mediagen.net.resource import clean_filename
from mediagen.net.trusted_origin import TrustedOrigin
from mediagen.pipelines.base import Outcome, Run
from mediagen.pipelines.saving.placement import Placement, StoreContext, remove
from mediagen.pipelines.saving.quota import Reservation
from mediagen.pipelines.saving.wait_for_space import until_room
from mediagen.storage.base import WaitsForRoom
from mediagen.streams.base import MIB, Sink, Source
from mediagen.streams.digest import combine_crc32
from mediagen.streams.formats.completeness import CompleteSource
from mediagen.streams.formats.probe import Probe, ProbedSource
from mediagen.streams.formats.sniff import SNIFF_BYTES
from mediagen.streams.json.media_field import EmbeddedMedia, chunks_of
from mediagen.streams.json.scanner import parse_pointer
from mediagen.streams.meter import Meter
from mediagen.streams.pool import BufferAllocator
from mediagen.streams.sources import ChunkSource, LimitedSource, PeekableSource
from mediagen.streams.transfer import TransferResult, move_buffered, move_ranges, still_stored

log = structlog.get_logger()

T = TypeVar("T")

RANGES_FROM: Final = 16 * MIB
"""Bytes from which parallel ranges are worth a second connection."""


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """How something is to be kept. ``kind``: what it must be; ``field``: JSON pointer of base64 text in the answer."""

    kind: FileKind | None = None
    filename: str | None = None
    field: str | None = None


class _StartOver(Exception):
    """The transfer broke where it cannot go on; trying it from the start may help."""

    def __init__(self, cause: MediagenError) -> None:
        super().__init__(cause.detail)
        self.cause = cause


class Saver:
    """Brings bytes into the store, from wherever they are, through ``buffers``, as one attempt of a task.

    ``waits_for_room``: a full store is waited for, not failed at, until the attempt's time is over.
    """

    def __init__(
        self, fetcher: Fetcher, store: StoreContext, buffers: BufferAllocator, *, waits_for_room: bool = False
    ) -> None:
        self._fetcher = fetcher
        self._store = store
        self._buffers = buffers
        self._waits_for_room = waits_for_room

    def trusting(self, origin: TrustedOrigin | None) -> Saver:
        """One that may also fetch from a configured origin, with its credentials."""
        fetcher = self._fetcher.trusting(origin)
        return Saver(fetcher, self._store, self._buffers, waits_for_room=self._waits_for_room)

    def waiting_for_room(self) -> Saver:
        """One for what cannot be had a second time, or not for nothing."""
        return Saver(self._fetcher, self._store, self._buffers, waits_for_room=True)

    async def save_url(self, url: str, wanted: SaveOptions, run: Run) -> Outcome:
        """What a URL gives, gone on with after a crash when the source allows it.

        Raises:
            DeadlineExceeded: ``fetch.total_seconds`` are over.
            FetchFailed, UrlNotAllowed, UnsupportedMedia, TooLarge, StorageUnavailable and their kin.
        """
        seconds = self._fetcher.settings.total_seconds
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self._until_done(url, wanted, run)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(f"the download took longer than {seconds:g} s") from None

    async def save_source(self, source: Source, wanted: SaveOptions, run: Run, *, declared: str | None) -> Outcome:
        """Bytes that come now, once. ``declared``: the media type that goes with them.

        Raises:
            UnsupportedMedia, TooLarge, StorageUnavailable and their kin, and what the source raises.
        """
        return await self._made_here(source, lambda: declared, wanted, run, run.resume)

    async def remove(self, checkpoint: Mapping[str, Any]) -> None:
        """Remove what an attempt with this checkpoint left that will never go on."""
        await remove(self._store.storage, checkpoint)

    async def discard(self, outcome: Outcome) -> None:
        """Remove the objects of an outcome."""
        for file in outcome.files:
            await self._store.storage.delete(file.key)

    async def _until_done(self, url: str, wanted: SaveOptions, run: Run) -> Outcome:
        saved: Mapping[str, Any] = run.resume
        failures, ranges = 0, True
        while True:
            try:
                return await self._once(url, wanted, run, saved, ranges=ranges)
            except _StartOver as again:
                failures += 1
                ranges = ranges and not isinstance(again.cause, RangesUnreliable)
                if failures >= self._fetcher.retry.attempts:
                    raise again.cause from None
                delay = self._fetcher.retry.delay(failures, again.cause.retry_after)
                log.info("transfer_started_over", failures=failures, reason=again.cause.detail)
                await asyncio.sleep(delay)
                await remove(self._store.storage, saved)  # what this attempt stored itself is gone already
                saved = {}

    async def _once(
        self, url: str, wanted: SaveOptions, run: Run, saved: Mapping[str, Any], *, ranges: bool
    ) -> Outcome:
        run.report(Progress("connecting"))
        async with self._fetcher.open(url, ranges=ranges) as download:
            try:
                if wanted.field is not None:
                    return await self._field(wanted, run, download, saved)
                placement = Placement.make(
                    download.head,
                    declared=download.resource.media_type,
                    filename=clean_filename(wanted.filename or download.resource.filename),
                    wanted=wanted.kind,
                )
                self._check_size(placement, download.resource.size)
                parallel = download.resource.resumable and self._store.storage.accepts_ranges
                if not parallel or download.size < RANGES_FROM:
                    return await self._sequential(run, placement, download, saved)
                return await self._ranges(run, placement, download, saved)
            except UploadLost as exc:
                raise _StartOver(exc) from None
            except FetchFailed as exc:
                if download.resource.ranges and refuses_ranges(exc):
                    raise _StartOver(RangesUnreliable(exc.detail, **exc.context)) from None
                # what can be resumed has been tried again where it broke
                if not exc.retryable or (download.resource.resumable and not isinstance(exc, SourceChanged)):
                    raise
                raise _StartOver(exc) from None

    def _check_size(self, placement: Placement, size: int | None) -> None:
        limit = self._store.limits.for_kind(placement.kind)
        if size is not None and size > limit:
            raise TooLarge(f"{size} bytes announced; at most {limit} are taken for a file of kind {placement.kind}")

    async def _with_room(self, size: int | None, move: Callable[[Reservation], Awaitable[Outcome]]) -> Outcome:
        """What ``move`` makes in its room of the store, which the outcome holds. Raises StorageFull."""
        room = await self._roomy(lambda: self._store.quota.reserve(size))
        try:
            outcome = await move(room)
        except BaseException:
            room.release()
            raise
        return replace(outcome, release=room.release)

    async def _roomy(self, call: Callable[[], Awaitable[T]]) -> T:
        return await (until_room(call) if self._waits_for_room else call())

    @asynccontextmanager
    async def _sink(self, placement: Placement, *, size: int | None, **options: Any) -> AsyncIterator[Sink]:
        """An upload to where the plan says. Raises as ``Storage.open_sink``."""

        def opening() -> Awaitable[Sink]:
            return stack.enter_async_context(
                self._store.storage.open_sink(
                    placement.key,
                    media_type=placement.stored_type,
                    filename=placement.filename,
                    token=placement.token,
                    size=size,
                    **options,
                )
            )

        async with AsyncExitStack() as stack:
            sink = await self._roomy(opening)
            if self._waits_for_room and isinstance(sink, WaitsForRoom):
                sink.waits_for_room = True
            yield sink

    # -- range lane

    async def _ranges(self, run: Run, placement: Placement, download: Download, saved: Mapping[str, Any]) -> Outcome:
        readers = await download.readers()
        if readers is None:
            return await self._sequential(run, placement, download, saved)
        return await self._with_room(
            download.size, lambda _room: self._by_ranges(run, placement, download, saved, readers)
        )

    async def _by_ranges(
        self,
        run: Run,
        placement: Placement,
        download: Download,
        saved: Mapping[str, Any],
        readers: list[HttpRangeReader],
    ) -> Outcome:
        resource = download.resource
        about = {"size": resource.size, "validator": resource.validator}
        earlier = Placement.from_checkpoint(saved) if saved else None
        resumes = earlier is not None and earlier.upload is not None and earlier.source == about
        if earlier is not None and resumes:
            placement = earlier
        else:
            await self._begin_anew(run, placement, saved)
        recorded = await run.parts() if resumes else []
        probe = placement.probe()
        probe.feed(0, download.head)
        async with self._sink(
            placement,
            size=download.size,
            parallel=True,
            resume=placement.upload if resumes else None,
            recorded=recorded,
        ) as sink:
            try:
                if sink.committed:
                    if sum(part.size for part in recorded) != download.size:
                        raise UploadLost("the stored object is not the one that was recorded")
                    moved = TransferResult(download.size, combine_crc32(recorded), None, recorded)
                    return self._outcome(run, placement, moved, probe)
                await sink.begin()
                placement = Placement.from_checkpoint(
                    {**placement.as_checkpoint(), "upload": dict(sink.state), "source": about}
                )
                await run.checkpoint(placement.as_checkpoint())
                moved = await self._move_ranges(run, download, sink, readers, resumes, probe)
                return await self._commit(run, placement, sink, moved, probe)
            except asyncio.CancelledError:
                if run.stopping:  # the next start goes on from the parts that are there
                    sink.detach()
                raise

    async def _move_ranges(
        self,
        run: Run,
        download: Download,
        sink: Sink,
        readers: list[HttpRangeReader],
        resumes: bool,
        probe: Probe,
    ) -> TransferResult:
        done = still_stored(await run.parts(), sink) if resumes else []
        already = sum(part.size for part in done)
        meter = Meter(_reporter(run), total=download.size, already=already, tally=self._store.tally)
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
            threads=self._store.threads,
            watch=probe.feed,
        )

    # -- buffer lane

    async def _sequential(
        self, run: Run, placement: Placement, download: Download, saved: Mapping[str, Any]
    ) -> Outcome:
        source: Source = download.sequential()
        if source.size is None and not download.resource.end_proven and download.resource.coding is None:
            source = CompleteSource(source, placement.media_type)
        await self._begin_anew(run, placement, saved)
        return await self._buffered(run, placement, source)

    async def _field(self, wanted: SaveOptions, run: Run, download: Download, saved: Mapping[str, Any]) -> Outcome:
        """The base64 text of one field of the JSON document that the URL gives."""
        media = EmbeddedMedia(chunks_of(download.sequential()), parse_pointer(wanted.field or ""))
        return await self._made_here(ChunkSource(media.chunks()), lambda: media.media_type, wanted, run, saved)

    async def _made_here(
        self,
        source: Source,
        declared: Callable[[], str | None],
        wanted: SaveOptions,
        run: Run,
        saved: Mapping[str, Any],
    ) -> Outcome:
        """Bytes that are decoded here. ``declared``: their media type, once the first of them has come."""
        peeked = PeekableSource(source)
        head = await peeked.peek(SNIFF_BYTES)
        placement = Placement.make(
            head, declared=declared(), filename=clean_filename(wanted.filename or ""), wanted=wanted.kind
        )
        await self._begin_anew(run, placement, saved)
        return await self._buffered(run, placement, peeked, made_here=True)

    async def _buffered(self, run: Run, placement: Placement, source: Source, *, made_here: bool = False) -> Outcome:
        return await self._with_room(
            source.size, lambda room: self._by_buffers(run, placement, source, room, made_here)
        )

    async def _by_buffers(
        self, run: Run, placement: Placement, source: Source, room: Reservation, made_here: bool
    ) -> Outcome:
        store, probe = self._store, placement.probe()
        async with self._sink(placement, size=source.size) as sink:

            async def begun() -> None:
                await run.checkpoint(placement.with_upload(sink.state).as_checkpoint())

            moved = await move_buffered(
                room.around(
                    LimitedSource(ProbedSource(source, probe), store.limits.for_kind(placement.kind)),
                    waits=self._waits_for_room,
                ),
                sink,
                pool=self._buffers,
                meter=Meter(_reporter(run), total=source.size, tally=store.tally),
                threads=store.threads,
                sha256_mode=store.sha256,
                made_here=made_here,
                on_begin=begun,
            )
            return await self._commit(run, placement, sink, moved, probe)

    # -- both

    async def _begin_anew(self, run: Run, placement: Placement, saved: Mapping[str, Any]) -> None:
        """Say where this run will write, after what an earlier one left is gone."""
        await remove(self._store.storage, saved)
        await run.checkpoint(placement.as_checkpoint())

    async def _commit(self, run: Run, placement: Placement, sink: Sink, moved: TransferResult, probe: Probe) -> Outcome:
        await sink.commit(moved.parts, size=moved.size, crc32=moved.crc32)
        return self._outcome(run, placement, moved, probe)

    def _outcome(self, run: Run, placement: Placement, moved: TransferResult, probe: Probe) -> Outcome:
        file = placement.file(moved, probe.finish(moved.size), task_id=run.task_id, owner=run.owner)
        return Outcome({"file": file.id}, (file,))


def _reporter(run: Run) -> Any:
    def report(transfer: Transfer) -> None:
        phase = "downloading" if transfer.stage == "download" else "uploading"
        run.report(Progress(phase, transfer.percent, transfer, transfer.remaining_seconds))

    return report
