"""Saves bytes in the store, from a URL or from a source, as one attempt of a task.

    open ─▶ head sniffed, kind and limit known ─▶ placement recorded ─▶ range lane or buffer lane ─▶ commit ─▶ File

A transfer in ranges survives a crash: its placement, its upload and its parts are recorded as it goes. Without ranges
there is nothing to resume, so a broken transfer starts over, up to ``fetch.attempts`` times.
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
from mediagen.pipelines.saving.wait_for_space import until_space
from mediagen.storage.base import WaitsForRoom
from mediagen.streams.base import MIB, Sink, Source
from mediagen.streams.buffer_lane import move_buffered
from mediagen.streams.digest import combine_crc32
from mediagen.streams.formats.completeness import CompleteSource
from mediagen.streams.formats.probe import Probe, ProbedSource
from mediagen.streams.formats.sniff import SNIFF_BYTES
from mediagen.streams.json.media_fields import EmbeddedMedia
from mediagen.streams.json.scanner import parse_pointer
from mediagen.streams.meter import Meter
from mediagen.streams.pool import BufferAllocator
from mediagen.streams.range_lane import move_ranges
from mediagen.streams.sources import ChunkSource, LimitedSource, PeekableSource, read_chunks
from mediagen.streams.transfer import TransferResult, still_stored

log = structlog.get_logger()

T = TypeVar("T")

RANGES_FROM: Final = 16 * MIB
"""Bytes from which parallel ranges are worth a second connection."""


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """How to save something.

    ``kind``: what it must be. ``field``: JSON pointer of base64 text in the document that a URL gives.
    ``waits_for_space``: wait for space in a full store, until the attempt's time is over, instead of failing.
    """

    kind: FileKind | None = None
    filename: str | None = None
    field: str | None = None
    waits_for_space: bool = False


class Saver:
    """Saves bytes in the store, through ``buffers``."""

    def __init__(self, fetcher: Fetcher, store: StoreContext, buffers: BufferAllocator) -> None:
        self.fetcher = fetcher
        self.store = store
        self.buffers = buffers

    async def save_url(
        self, url: str, options: SaveOptions, run: Run, *, trusted: TrustedOrigin | None = None
    ) -> Outcome:
        """Save what a URL gives. After a crash it is resumed where the source allows that.

        ``trusted``: as of ``Fetcher.open``.

        Raises:
            DeadlineExceeded: ``fetch.total_seconds`` are over.
            FetchFailed, UrlNotAllowed, UnsupportedMedia, TooLarge, StorageUnavailable and their kin.
        """
        seconds = self.fetcher.settings.total_seconds
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self._restart_until_saved(url, options, run, trusted)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(f"the download took more than {seconds:g} s") from None

    async def save_source(self, source: Source, options: SaveOptions, run: Run, *, declared: str | None) -> Outcome:
        """Save bytes that come now, once. ``declared``: their media type, as their sender claims.

        Raises:
            UnsupportedMedia, TooLarge, StorageUnavailable and their kin, and what the source raises.
        """
        return await _Transfer(self, options, run, run.resume).save_decoded(source, lambda: declared)

    async def remove(self, checkpoint: Mapping[str, Any]) -> None:
        """Remove what an attempt with this checkpoint left, when it will not be resumed."""
        await remove(self.store.storage, checkpoint)

    async def discard(self, outcome: Outcome) -> None:
        """Remove the objects of an outcome."""
        for file in outcome.files:
            await self.store.storage.delete(file.key)

    async def _restart_until_saved(
        self, url: str, options: SaveOptions, run: Run, trusted: TrustedOrigin | None
    ) -> Outcome:
        saved: Mapping[str, Any] = run.resume
        failures, ranges = 0, True
        while True:
            run.report(Progress("connecting"))
            download: Download | None = None
            try:
                async with self.fetcher.open(url, ranges=ranges, trusted=trusted) as download:
                    return await _Transfer(self, options, run, saved).save_download(download)
            except (UploadLost, FetchFailed) as exc:
                cause = None if download is None else _reason_to_restart(exc, download)
                if cause is None:
                    raise
                failures += 1
                if failures >= self.fetcher.retry.attempts:
                    raise cause from None
                ranges = ranges and not isinstance(cause, RangesUnreliable)
                delay = self.fetcher.retry.delay(failures, cause.retry_after)
                log.info("transfer_started_over", failures=failures, reason=cause.detail)
            await asyncio.sleep(delay)
            await remove(self.store.storage, saved)  # what this attempt stored itself is gone already
            saved = {}


def _reason_to_restart(exc: UploadLost | FetchFailed, download: Download) -> UploadLost | FetchFailed | None:
    """Why a transfer that broke like this may succeed from the start; None: it would not."""
    if isinstance(exc, UploadLost):
        return exc
    if download.resource.ranges and refuses_ranges(exc):
        return RangesUnreliable(exc.detail, **exc.context)
    # a resumable download has been tried again where it broke
    may_help = exc.retryable and (not download.resource.resumable or isinstance(exc, SourceChanged))
    return exc if may_help else None


class _Transfer:
    """One run through the store: what is saved, and how.

    ``saved`` is the checkpoint of an earlier run of this attempt.
    """

    def __init__(self, saver: Saver, options: SaveOptions, run: Run, saved: Mapping[str, Any]) -> None:
        self._fetcher = saver.fetcher
        self._store = saver.store
        self._buffers = saver.buffers
        self._options = options
        self._run = run
        self._saved = saved

    async def save_download(self, download: Download) -> Outcome:
        if self._options.field is not None:
            media = EmbeddedMedia(read_chunks(download.sequential()), parse_pointer(self._options.field))
            return await self.save_decoded(ChunkSource(media.chunks()), lambda: media.media_type)
        resource = download.resource
        placement = Placement.make(
            download.head,
            declared=resource.media_type,
            filename=clean_filename(self._options.filename or resource.filename),
            wanted=self._options.kind,
        )
        self._check_size(placement, resource.size)
        if resource.resumable and self._store.storage.accepts_ranges and download.size >= RANGES_FROM:
            readers = await download.readers()
            if readers is not None:
                return await self._with_space(
                    download.size, lambda _: self._move_by_ranges(placement, download, readers)
                )
        source: Source = download.sequential()
        if source.size is None and not resource.end_proven and resource.coding is None:
            source = CompleteSource(source, placement.media_type)
        return await self._save_in_order(placement, source)

    async def save_decoded(self, source: Source, declared: Callable[[], str | None]) -> Outcome:
        """Save bytes that are decoded in this process. ``declared``: their media type, known once some have come."""
        peeked = PeekableSource(source)
        head = await peeked.peek(SNIFF_BYTES)
        filename = clean_filename(self._options.filename or "")
        placement = Placement.make(head, declared=declared(), filename=filename, wanted=self._options.kind)
        return await self._save_in_order(placement, peeked, made_here=True)

    def _check_size(self, placement: Placement, size: int | None) -> None:
        limit = self._store.limits.for_kind(placement.kind)
        if size is not None and size > limit:
            raise TooLarge(f"{size} bytes announced; at most {limit} are taken for a file of kind {placement.kind}")

    # -- space in the store

    async def _with_space(self, size: int | None, move: Callable[[Reservation], Awaitable[Outcome]]) -> Outcome:
        """Do ``move`` in reserved space of the store, which its outcome holds. Raises StorageFull."""
        reservation = await self._once_there_is_space(lambda: self._store.quota.reserve(size))
        try:
            outcome = await move(reservation)
        except BaseException:
            reservation.release()
            raise
        return replace(outcome, release=reservation.release)

    async def _once_there_is_space(self, call: Callable[[], Awaitable[T]]) -> T:
        return await (until_space(call) if self._options.waits_for_space else call())

    @asynccontextmanager
    async def _open_sink(self, placement: Placement, *, size: int | None, **options: Any) -> AsyncIterator[Sink]:
        """An upload to ``placement``. Raises as ``Storage.open_sink``."""

        def open_sink() -> Awaitable[Sink]:
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
            sink = await self._once_there_is_space(open_sink)
            if self._options.waits_for_space and isinstance(sink, WaitsForRoom):
                sink.waits_for_room = True
            yield sink

    # -- range lane

    async def _move_by_ranges(
        self, placement: Placement, download: Download, readers: list[HttpRangeReader]
    ) -> Outcome:
        resource = download.resource
        about = {"size": resource.size, "validator": resource.validator}
        earlier = Placement.from_checkpoint(self._saved) if self._saved else None
        resumes = earlier is not None and earlier.upload is not None and earlier.source == about
        if earlier is not None and resumes:
            placement = earlier
        else:
            await self._begin_anew(placement)
        recorded = await self._run.parts() if resumes else []
        probe = placement.probe()
        probe.feed(0, download.head)
        async with self._open_sink(
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
                    return self._outcome(placement, moved, probe)
                await sink.begin()
                placement = replace(placement, upload=dict(sink.state), source=about)
                await self._run.checkpoint(placement.as_checkpoint())
                moved = await self._move_ranges(download, sink, readers, resumes, probe)
                return await self._commit(placement, sink, moved, probe)
            except asyncio.CancelledError:
                if self._run.stopping:  # the next start resumes with the parts that are there
                    sink.detach()
                raise

    async def _move_ranges(
        self, download: Download, sink: Sink, readers: list[HttpRangeReader], resumes: bool, probe: Probe
    ) -> TransferResult:
        done = still_stored(await self._run.parts(), sink) if resumes else []
        already = sum(part.size for part in done)
        meter = Meter(self._report, total=download.size, already=already, tally=self._store.tally)
        if done:
            log.info("transfer_resumed", parts=len(done), bytes=meter.already)
        return await move_ranges(
            download,
            sink,
            readers=readers,
            meter=meter,
            done=done,
            record=self._run.record_part,
            workers=self._fetcher.workers(download.resource, sink.parts_in_flight),
            threads=self._store.threads,
            watch=probe.feed,
        )

    # -- buffer lane

    async def _save_in_order(self, placement: Placement, source: Source, *, made_here: bool = False) -> Outcome:
        await self._begin_anew(placement)
        return await self._with_space(
            source.size, lambda reservation: self._move_by_buffers(placement, source, reservation, made_here)
        )

    async def _move_by_buffers(
        self, placement: Placement, source: Source, reservation: Reservation, made_here: bool
    ) -> Outcome:
        store, probe = self._store, placement.probe()
        limited = LimitedSource(ProbedSource(source, probe), store.limits.for_kind(placement.kind))
        async with self._open_sink(placement, size=source.size) as sink:

            async def record_upload() -> None:
                await self._run.checkpoint(placement.with_upload(sink.state).as_checkpoint())

            moved = await move_buffered(
                reservation.around(limited, waits=self._options.waits_for_space),
                sink,
                pool=self._buffers,
                meter=Meter(self._report, total=source.size, tally=store.tally),
                threads=store.threads,
                sha256_mode=store.sha256,
                made_here=made_here,
                on_begin=record_upload,
            )
            return await self._commit(placement, sink, moved, probe)

    # -- both

    async def _begin_anew(self, placement: Placement) -> None:
        """Remove what an earlier run left, then record where this one writes."""
        await remove(self._store.storage, self._saved)
        await self._run.checkpoint(placement.as_checkpoint())

    async def _commit(self, placement: Placement, sink: Sink, moved: TransferResult, probe: Probe) -> Outcome:
        await sink.commit(moved.parts, size=moved.size, crc32=moved.crc32)
        return self._outcome(placement, moved, probe)

    def _outcome(self, placement: Placement, moved: TransferResult, probe: Probe) -> Outcome:
        file = placement.file(moved, probe.finish(moved.size), task_id=self._run.task_id, owner=self._run.owner)
        return Outcome({"file": file.id}, (file,))

    def _report(self, transfer: Transfer) -> None:
        phase = "downloading" if transfer.stage == "download" else "uploading"
        self._run.report(Progress(phase, transfer.percent, transfer, transfer.remaining_seconds))
