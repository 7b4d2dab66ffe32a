"""Media that comes inside a request: base64 in its JSON body, decoded and stored while the body arrives.

The work is done before the request is answered, so there is no task to resume after a crash, only something to remove:
that is written down before the first byte is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from mediagen.core.errors import UnsupportedMedia
from mediagen.core.files import File, FileKind
from mediagen.core.progress import Transfer
from mediagen.net.resource import clean_filename
from mediagen.pipelines.base import Ledger
from mediagen.pipelines.keep import Keeping, Plan, remove
from mediagen.streams.embedded import EmbeddedMedia
from mediagen.streams.jsonfield import Pointer
from mediagen.streams.meter import Meter
from mediagen.streams.sniff import SNIFF_BYTES
from mediagen.streams.sources import ChunkSource, Limited, Peeked
from mediagen.streams.transfer import move_buffered

FIELD: Final[Pointer] = ("data",)


@dataclass(frozen=True, slots=True)
class Received:
    """A request body that has been read: its JSON, and the file that was in it, if any."""

    document: Any
    file: File | None

    def named(self, filename: str | None, kind: FileKind | None) -> File:
        """The file as the rest of the body wants it.

        Raises:
            UnsupportedMedia: it is of another kind.
        """
        if self.file is None:
            raise ValueError("no file was received")
        if kind is not None and kind is not self.file.kind:
            raise UnsupportedMedia(f"a file of kind {kind} was announced, this is {self.file.media_type}")
        return replace(self.file, filename=clean_filename(filename or "") or self.file.filename)


class BodyIntake:
    """Reads bodies of requests, keeps the media in them."""

    def __init__(self, keeping: Keeping, ledger: Ledger, *, boot: int) -> None:
        self._keep = keeping
        self._ledger = ledger
        self._boot = boot

    @asynccontextmanager
    async def receive(
        self, body: AsyncIterator[bytes], *, task_id: str, max_rest: int, owner: str | None = None
    ) -> AsyncIterator[Received]:
        """The body, its media stored. The block makes rows of it; when the block fails, the object is removed.

        Args:
            task_id: the id that the task will have.
            max_rest: bytes that the body may have beside its media.

        Raises:
            InvalidRequest, InvalidBase64, TooLarge, StorageUnavailable: and nothing was kept.
        """
        media = EmbeddedMedia(body, FIELD, max_rest=max_rest)
        source = Peeked(ChunkSource(media.chunks(required=False)))
        head = await source.peek(SNIFF_BYTES)
        if not media.found:
            yield Received(media.document, None)
            return
        plan = Plan.make(head, declared=media.media_type, filename="", wanted=None)
        debt = await self._ledger.owe_abort(
            {"kind": "ingest", "task_id": task_id, "attempt": 1, "boot": self._boot, "checkpoint": plan.as_checkpoint()}
        )
        try:
            file = await self._store(plan, source, task_id, owner)
            yield Received(media.document, file)
        except asyncio.CancelledError:
            raise  # the row may be on its way to the database: the next start looks, and settles the debt
        except BaseException:
            await remove(self._keep.storage, plan.as_checkpoint())
            await self._ledger.settle_abort(debt)
            raise
        await self._ledger.settle_abort(debt)

    async def _store(self, plan: Plan, source: Peeked, task_id: str, owner: str | None) -> File:
        keep = self._keep
        async with keep.storage.open_sink(plan.key, media_type=plan.media_type, token=plan.token, size=None) as sink:
            moved = await move_buffered(
                Limited(source, keep.limits.for_kind(plan.kind)),
                sink,
                pool=keep.pool,
                meter=Meter(_unseen, total=None, tally=keep.tally),
                threads=keep.threads,
                sha256_mode=keep.sha256,
                on_begin=_nothing,
            )
            await sink.commit(moved.parts, size=moved.size, crc32=moved.crc32)
        return plan.file(moved, task_id=task_id, owner=owner)


def _unseen(transfer: Transfer) -> None:
    """Nobody can watch a request that has no task yet; its client sees how much it has sent."""


async def _nothing() -> None:
    """The plan, which names the key, is enough to find and remove the upload."""
