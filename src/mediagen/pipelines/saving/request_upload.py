"""Content that comes inside a request and is stored while it arrives.

The work is done before the request is answered, so there is no task to resume after a crash, only something to remove:
that is written down before the first byte is stored, and forgotten once the file is a row.
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
from mediagen.streams.formats.probe import Probed
from mediagen.streams.formats.sniff import SNIFF_BYTES
from mediagen.streams.meter import Meter
from mediagen.streams.sources import Limited, Peeked
from mediagen.streams.transfer import move_buffered

log = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 5.0
"""After which a place for an upload may be free again."""

NO_BOOT = 0
"""In place of the number of a start: the request of this debt is over, any start may settle it."""


class RequestUploads:
    """Keeps what requests bring.

    ``boot`` is the number of this start (``tasks.debts``). ``owes`` is called when a debt may be settled by now.
    """

    def __init__(
        self, store: StoreContext, ledger: Ledger, *, boot: int, owes: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._owes = owes
        self._ledger = ledger
        self._boot = boot
        self.active = 0
        """Uploads that are being taken in."""
        self._of_each: Counter[str] = Counter()

    @contextmanager
    def place(self, network: str) -> Iterator[None]:
        """One of ``limits.uploads_at_once``, for as long as an upload takes. To be had before its body is asked for.

        Half of them are for one network at most: whoever sends slowly is in his own way and not in everybody's.

        Raises:
            Unavailable: all are taken.
            RateLimited: all are taken that this network may have.
        """
        most = self._store.limits.uploads_at_once
        if self.active >= most:
            raise Unavailable(f"{most} uploads are being taken in, which is as many as may", retry_after=RETRY_SECONDS)
        if self._of_each[network] >= (most + 1) // 2:
            raise RateLimited("too many uploads from this address at once", retry_after=RETRY_SECONDS)
        self.active += 1
        self._of_each[network] += 1
        try:
            yield
        finally:
            self.active -= 1
            self._of_each[network] -= 1
            if not self._of_each[network]:
                del self._of_each[network]

    @property
    def max_bytes(self) -> int:
        """More than this is too large whatever it is."""
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
    ) -> AsyncIterator[File]:
        """A file of these bytes, as ``save`` gives it.

        Args:
            filename: what the client calls it; may be empty, is never used as a path.
            declared: the media type that the client claims; believed only where the bytes say nothing.
            task_id: the task that it is for.
            wanted: what it must be. Raises UnsupportedMedia for anything else.
        """
        async with self._room(source.size) as room:  # before the first byte is asked for
            peeked = Peeked(source)
            head = await peeked.peek(SNIFF_BYTES)
            placement = Placement.make(head, declared=declared, filename=clean_filename(filename), wanted=wanted)
            async with self._kept(placement, peeked, room, task_id, owner) as file:
                yield file

    @asynccontextmanager
    async def save(
        self, placement: Placement, source: Source, *, task_id: str | None = None, owner: str | None = None
    ) -> AsyncIterator[File]:
        """The stored file, of bytes that are decoded here. The block makes a row of it.

        When the block fails, the object is removed.

        Raises:
            TooLarge, StorageUnavailable, StorageFull, Unavailable, and what the source raises: and nothing was kept.
        """
        async with (
            self._room(source.size) as room,
            self._kept(placement, source, room, task_id, owner, made_here=True) as file,
        ):
            yield file

    @asynccontextmanager
    async def _room(self, size: int | None) -> AsyncIterator[Reservation]:
        room = await self._store.quota.reserve(size)
        try:
            yield room
        finally:
            room.release()

    @asynccontextmanager
    async def _kept(
        self,
        placement: Placement,
        source: Source,
        room: Reservation,
        task_id: str | None,
        owner: str | None,
        *,
        made_here: bool = False,
    ) -> AsyncIterator[File]:
        limited = room.around(Limited(source, self._store.limits.for_kind(placement.kind)))
        state = {"kind": "ingest", "boot": self._boot, "checkpoint": placement.as_checkpoint()}
        debt = await self._ledger.owe_abort(state)
        try:
            file = await self._write(placement, limited, task_id, owner, made_here=made_here)
        except asyncio.CancelledError:
            await self._end(debt, self._let_go(debt, state))  # no row is on its way
            raise
        except BaseException:
            await self._take_back(debt, state)
            raise
        try:
            yield file
        except asyncio.CancelledError:
            raise  # the row may be on its way to the database: the next start looks, and settles the debt
        except BaseException:
            await self._take_back(debt, state)
            raise
        await self._end(debt, self._settle(debt, state))

    async def _end(self, debt: int, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``, which the next start does if it fails: it sees whether the file is a row."""
        try:
            await work
        except MediagenError as exc:
            log.warning("debt_left", debt=debt, error=exc.detail)

    async def _settle(self, debt: int, state: Mapping[str, Any]) -> None:
        """Nothing more is to be removed, unless the store carries out a request late."""
        owing = late_write_cleanups(self._store.storage, state["checkpoint"])
        await self._ledger.settle_abort(debt, owing=owing)
        if owing:
            self._owes()

    async def _let_go(self, debt: int, state: Mapping[str, Any]) -> None:
        """Leave it to those who settle debts."""
        await self._ledger.settle_abort(debt, owing=[{**state, "boot": NO_BOOT}])
        self._owes()

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
                Probed(source, probe),
                sink,
                pool=store.pool.requests,
                meter=Meter(_unseen, total=source.size, tally=store.tally),
                threads=store.threads,
                sha256_mode=store.sha256,
                made_here=made_here,
                on_begin=_nothing,
            )
            await sink.commit(moved.parts, size=moved.size, crc32=moved.crc32)
        return placement.file(moved, probe.finish(moved.size), task_id=task_id, owner=owner)

    async def _take_back(self, debt: int, state: Mapping[str, Any]) -> None:
        """Remove what was stored, now or, when the store fails at that too, later. Leaves the cause to be raised."""
        try:
            await remove(self._store.storage, state["checkpoint"])
        except MediagenError as exc:
            log.warning("debt_left", debt=debt, error=exc.detail)
            await self._end(debt, self._let_go(debt, state))
        else:
            await self._end(debt, self._settle(debt, state))


def _unseen(transfer: Transfer) -> None:
    """Nobody can watch a request that has no task yet; its client sees how much it has sent."""


async def _nothing() -> None:
    """The plan, which names the key, is enough to find and remove the upload."""
