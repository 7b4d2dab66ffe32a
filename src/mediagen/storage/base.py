"""What a store must do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from mediagen.streams.base import Sink, Source, StoredPart


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store knows it."""

    key: str
    size: int | None
    """Bytes; None when the store does not say."""
    metadata: Mapping[str, str]


class Storage(Protocol):
    """A store of whole objects. Keys are made by us: relative, ``/``-separated, no dot segments."""

    name: str

    @property
    def accepts_ranges(self) -> bool:
        """Whether its sinks take parts that cannot be read ahead (``streams.parts.RangeBody``)."""

    def open_sink(
        self,
        key: str,
        *,
        media_type: str,
        token: str,
        size: int | None,
        filename: str = "",
        parallel: bool = False,
        resume: Mapping[str, Any] | None = None,
        recorded: Sequence[StoredPart] = (),
    ) -> AbstractAsyncContextManager[Sink]:
        """An upload to ``key``.

        Args:
            media_type: what the bytes are known to be; a store with URLs of its own keeps it with the object, as
                ``core.presentation`` allows it to be shown.
            filename: what a browser is to call it when it is saved from such a URL; empty: by its key.
            token: random word kept with the object, by which an uncertain commit is settled.
            size: bytes to come, or None when unknown.
            parallel: parts will come out of order and are recorded for a resume.
            resume: ``Sink.state`` of an earlier run.
            recorded: the parts that the earlier run recorded.

        Raises:
            UploadLost: the store no longer knows the upload to resume.
            StorageFull, StorageUnavailable, StorageRefused.
        """

    def open_source(
        self, key: str, *, offset: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[Source]:
        """The bytes of an object. The size of the source is None when the store does not say it. Raises NotFound."""

    async def head(self, key: str) -> StoredObject | None:
        """The object, or None when there is none."""

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    @property
    def acts_late(self) -> bool:
        """Whether a request may be carried out after its sender gave it up, or died: what was removed may come back."""

    def in_doubt(self, key: str) -> bool:
        """Whether that may happen with a request about this key that the running process made."""

    async def abort(self, state: Mapping[str, Any]) -> None:
        """Remove an unfinished upload by its ``Sink.state``; one that is not there is no error.

        A state without an upload's id, saved before the upload was announced, removes every upload of its key. So does
        a state with ``"every": True``, whose upload may have been announced twice.
        """

    async def remove(self, state: Mapping[str, Any]) -> None:
        """``abort``, and delete the object as well, where the store can tell: if it carries the token of the state."""

    async def sweep(self, keep: Sequence[Mapping[str, Any]]) -> int:
        """Remove what dead runs left, where the store can tell that it is ours; gives the number of things removed.

        ``keep`` are the states that live tasks will resume. Called at start, before anything runs.
        """

    def hurry(self, seconds: float) -> None:
        """The process is about to end: clean-ups take ``seconds`` at most from now on, and leave the rest to debts."""

    async def check(self) -> None:
        """Raise StorageUnavailable unless the store answers."""


@runtime_checkable
class HasLocalPaths(Protocol):
    """A store whose objects are files that the kernel can send by itself."""

    def path_of(self, key: str) -> str: ...


@runtime_checkable
class WaitsForRoom(Protocol):
    """A sink that can wait in the middle of an upload until its full disk has room again."""

    waits_for_room: bool
    """False at first: a full disk ends the upload."""


@runtime_checkable
class TellsTime(Protocol):
    """A store with a clock of its own."""

    async def now(self) -> datetime | None:
        """What time it is there, to the second; None when it does not say. Raises StorageUnavailable."""


@runtime_checkable
class PresignsUrls(Protocol):
    """A store that serves objects itself by links that expire."""

    async def presign(self, key: str, *, ttl: int, filename: str, media_type: str, inline: bool) -> str:
        """A link to the object for ``ttl`` seconds; ``inline`` holds only for what may be shown in a page."""
