"""Saves the content that a request carries, while it arrives.

The upload ends before the request is answered, so no task resumes it after a crash. Its cleanup is therefore recorded
before the first byte is stored, and dropped once the file is a row.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import structlog

from mediagen.core.errors import MediagenError, RateLimited, Unavailable
from mediagen.core.files import File, FileKind
from mediagen.core.progress import Transfer
from mediagen.net.resource import clean_filename
from mediagen.pipelines.base import Ledger
from mediagen.pipelines.saving.placement import Placement, StoreContext, late_write_cleanups, remove
from mediagen.pipelines.saving.quota import Reservation
from mediagen.streams.base import Source
from mediagen.streams.buffer_lane import move_buffered
from mediagen.streams.formats.probe import ProbedSource
from mediagen.streams.formats.sniff import SNIFF_BYTES
from mediagen.streams.meter import Meter
from mediagen.streams.sources import LimitedSource, PeekableSource

log = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 5.0
"""What a refused upload is told to wait."""

NO_BOOT = 0
"""Replaces the boot number of a cleanup whose request is over: any start of the server may do it."""


class PendingFile:
    """A stored file that is not a row yet. Unless it is claimed, it is removed at the end of its block."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.claimed = False

    def claim(self) -> None:
        """The file is a row now."""
        self.claimed = True


class RequestUploads:
    """Saves the content of requests.

    ``boot`` is the number of this start of the server (``tasks.deferred_cleanup``). ``owes`` is called when a recorded
    cleanup may be due.
    """

    def __init__(
        self, store: StoreContext, ledger: Ledger, *, boot: int, owes: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._owes = owes
        self._ledger = ledger
        self._boot = boot
        self.active = 0
        """Uploads under way."""
        self._active_of: Counter[str] = Counter()

    @contextmanager
    def slot(self, network: str) -> Iterator[None]:
        """Hold one of ``limits.uploads_at_once``. Enter it before the body is asked for.

        One network may hold at most half of them, so that a slow client cannot block the others.

        Raises:
            Unavailable: all are in use.
            RateLimited: this network holds its half.
        """
        most = self._store.limits.uploads_at_once
        if self.active >= most:
            raise Unavailable(f"all {most} uploads that may run at once are in use", retry_after=RETRY_SECONDS)
        if self._active_of[network] >= (most + 1) // 2:
            raise RateLimited("too many concurrent uploads from this address", retry_after=RETRY_SECONDS)
        self.active += 1
        self._active_of[network] += 1
        try:
            yield
        finally:
            self.active -= 1
            self._active_of[network] -= 1
            if not self._active_of[network]:
                del self._active_of[network]

    @property
    def max_bytes(self) -> int:
        """The largest file of any kind."""
        return self._store.limits.largest

    @asynccontextmanager
    async def receive(
        self,
        source: Source,
        *,
        filename: str,
        declared: str | None,
        owner: str | None = None,
        task_id: str | None = None,
        wanted: FileKind | None = None,
        decoded: bool = False,
    ) -> AsyncIterator[PendingFile]:
        """Save these bytes as a file. The block inserts its row and claims it; otherwise the object is removed.

        Args:
            filename: the client's name for it; may be empty, is never used as a path.
            declared: the media type that the client claims; believed only where the bytes do not show one.
            task_id: the task that the file is for.
            wanted: the kind that it must be.
            decoded: the bytes are decoded in this process.

        Raises:
            UnsupportedMedia: the content is of another kind than ``wanted``.
            TooLarge, StorageUnavailable, StorageFull, Unavailable, and what the source raises: nothing is kept.
        """
        async with self._reserve(source.size) as reservation:  # before the first byte is asked for
            peeked = PeekableSource(source)
            head = await peeked.peek(SNIFF_BYTES)
            placement = Placement.make(head, declared=declared, filename=clean_filename(filename), wanted=wanted)
            async with self._save(placement, peeked, reservation, task_id, owner, made_here=decoded) as pending:
                yield pending

    @asynccontextmanager
    async def save(
        self, placement: Placement, source: Source, *, owner: str | None = None
    ) -> AsyncIterator[PendingFile]:
        """Save bytes that were made in this process where ``placement`` says. Otherwise as ``receive``."""
        async with (
            self._reserve(source.size) as reservation,
            self._save(placement, source, reservation, None, owner, made_here=True) as pending,
        ):
            yield pending

    @asynccontextmanager
    async def _reserve(self, size: int | None) -> AsyncIterator[Reservation]:
        reservation = await self._store.quota.reserve(size)
        try:
            yield reservation
        finally:
            reservation.release()

    @asynccontextmanager
    async def _save(
        self,
        placement: Placement,
        source: Source,
        reservation: Reservation,
        task_id: str | None,
        owner: str | None,
        *,
        made_here: bool,
    ) -> AsyncIterator[PendingFile]:
        limited = reservation.around(LimitedSource(source, self._store.limits.for_kind(placement.kind)))
        state = {"kind": "ingest", "boot": self._boot, "checkpoint": placement.as_checkpoint()}
        debt = await self._ledger.owe_abort(state)
        try:
            pending = PendingFile(await self._write(placement, limited, task_id, owner, made_here=made_here))
        except asyncio.CancelledError:
            await self._attempt(debt, self._defer(debt, state))  # no row is on its way
            raise
        except BaseException:
            await self._remove(debt, state)
            raise
        try:
            yield pending
        except asyncio.CancelledError:
            if pending.claimed:
                await self._finish(pending, debt, state)
            raise  # else the row may be on its way to the database: the next start looks, and settles the cleanup
        except BaseException:
            await self._finish(pending, debt, state)
            raise
        await self._finish(pending, debt, state)

    async def _finish(self, pending: PendingFile, debt: int, state: Mapping[str, Any]) -> None:
        if pending.claimed:
            await self._attempt(debt, self._settle(debt, state))
        else:
            await self._remove(debt, state)

    async def _attempt(self, debt: int, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``. If it fails, the next start does it: that one sees whether the file is a row."""
        try:
            await work
        except MediagenError as exc:
            log.warning("debt_left", debt=debt, error=exc.detail)

    async def _settle(self, debt: int, state: Mapping[str, Any]) -> None:
        """Drop the cleanup, except for requests that the store may still carry out late."""
        owing = late_write_cleanups(self._store.storage, state["checkpoint"])
        await self._ledger.settle_abort(debt, owing=owing)
        if owing:
            self._owes()

    async def _defer(self, debt: int, state: Mapping[str, Any]) -> None:
        """Leave the cleanup to ``tasks.deferred_cleanup``."""
        await self._ledger.settle_abort(debt, owing=[{**state, "boot": NO_BOOT}])
        self._owes()

    async def _remove(self, debt: int, state: Mapping[str, Any]) -> None:
        """Remove what was stored; if the store fails at that too, later. The caller raises the cause."""
        try:
            await remove(self._store.storage, state["checkpoint"])
        except MediagenError as exc:
            log.warning("debt_left", debt=debt, error=exc.detail)
            await self._attempt(debt, self._defer(debt, state))
        else:
            await self._attempt(debt, self._settle(debt, state))

    async def _write(
        self, placement: Placement, source: Source, task_id: str | None, owner: str | None, *, made_here: bool
    ) -> File:
        store, probe = self._store, placement.probe()
        async with store.storage.open_sink(
            placement.key,
            media_type=placement.stored_type,
            filename=placement.filename,
            token=placement.token,
            size=source.size,
        ) as sink:
            moved = await move_buffered(
                ProbedSource(source, probe),
                sink,
                pool=store.pool.requests,
                meter=Meter(_discard_reading, total=source.size, tally=store.tally),
                threads=store.threads,
                sha256_mode=store.sha256,
                made_here=made_here,
                on_begin=_do_nothing,
            )
            await sink.commit(moved.parts, size=moved.size, crc32=moved.crc32)
        return placement.file(moved, probe.finish(moved.size), task_id=task_id, owner=owner)


def _discard_reading(transfer: Transfer) -> None:
    """A request has no task yet that could show its progress; the client knows how much it has sent."""


async def _do_nothing() -> None:
    """The recorded placement names the key, which is enough to find and remove the upload."""
