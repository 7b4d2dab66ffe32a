"""Images that come with a request: stored before its task is made, and read whenever they are sent to a provider.

Whatever a caller sends, or names by URL or file id, becomes a file. The stored request holds only ids, so a retry has
the same inputs even when a URL no longer works.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Annotated, Final, Protocol

from pydantic import BaseModel, ConfigDict, StringConstraints

from mediagen.core.errors import FetchFailed, InputUnavailable, InvalidRequest, UnsupportedMedia
from mediagen.core.files import File, FileKind, new_id
from mediagen.net.download import Fetcher
from mediagen.pipelines.saving.request_upload import PendingFile, RequestUploads
from mediagen.providers.base import Input, Role
from mediagen.storage.base import Storage
from mediagen.streams.base import Source, View
from mediagen.streams.formats.completeness import CompleteSource
from mediagen.streams.json.base64 import DataUriDecoder
from mediagen.streams.sources import ChunkSource

MAX_INPUTS: Final = 17
"""Per request: sixteen images and a mask."""
FETCH_SECONDS: Final = 60.0
"""Limit of fetching one input, since its caller waits for the response."""
FILE_ID: Final = r"^file_[0-9a-f]{32}$"

_MEDIA_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""The media types that providers accept."""


class InputRef(BaseModel):
    """An input of a task: its role, and its file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    file_id: Annotated[str, StringConstraints(pattern=FILE_ID)]


class Shelf(Protocol):
    """Looks up files."""

    async def get(self, file_id: str, *, owner: str | None = None) -> File | None:
        """The file; None: there is none, or it is another owner's. ``owner`` None: any owner."""


class InputLoader:
    """Opens the inputs of tasks for their providers."""

    def __init__(self, shelf: Shelf, storage: Storage) -> None:
        self._shelf = shelf
        self._storage = storage

    async def load(self, refs: Iterable[InputRef], *, owner: str | None) -> tuple[Input, ...]:
        """The inputs, in their order. Raises InvalidRequest: a file is gone, or is another owner's."""
        found = []
        for ref in refs:
            file = await self._shelf.get(ref.file_id, owner=owner)
            if file is None:
                raise InvalidRequest(f"the input {ref.file_id} no longer exists", param=_param(ref.role))
            found.append(self._input_of(file, ref.role, owner))
        return tuple(found)

    def _input_of(self, file: File, role: Role, owner: str | None) -> Input:
        """A file as an input of a task of ``owner``. Raises UnsupportedMedia."""
        check_input(file)
        return Input(
            role,
            file.media_type,
            file.bytes,
            lambda: self._storage.open_source(file.key),
            file.filename,
            owner,
        )


class RequestInputs:
    """The inputs of one request. Files stored here are removed at the end of the block unless they are claimed.

    Every method raises TooLarge, UnsupportedMedia, StorageUnavailable, StorageFull and their kin.
    """

    def __init__(
        self,
        uploads: RequestUploads,
        fetcher: Fetcher,
        shelf: Shelf,
        *,
        owner: str | None,
        sees: str | None,
        network: str,
    ) -> None:
        self.task_id = new_id("task")
        """The id that the new task will have; the files refer to it."""
        self._pending: list[PendingFile] = []
        self._count = 0
        self._uploads = uploads
        self._fetcher = fetcher
        self._shelf = shelf
        self._owner = owner
        self._sees = sees
        self._network = network
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> RequestInputs:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, exc, trace)

    @property
    def stored(self) -> list[File]:
        """New files, which have no rows yet."""
        return [pending.file for pending in self._pending]

    def claim(self) -> None:
        """The files are rows now."""
        for pending in self._pending:
            pending.claim()

    async def receive(self, source: Source, *, filename: str, declared: str | None) -> File:
        """Store content of the request itself. Also raises what the source raises."""
        self._count_input()
        if not self._pending:
            self._stack.enter_context(self._uploads.slot(self._network))
        pending = await self._stack.enter_async_context(
            self._uploads.receive(
                source,
                filename=filename,
                declared=declared,
                owner=self._owner,
                task_id=self.task_id,
                wanted=FileKind.IMAGE,
            )
        )
        check_input(pending.file)
        self._pending.append(pending)
        return pending.file

    async def receive_base64(self, chunks: AsyncIterator[View]) -> File:
        """Store content that was base64 in the request."""
        return await self.receive(ChunkSource(chunks), filename="", declared=None)

    async def resolve(self, text: str) -> File:
        """The file that a text stands for: a URL, the id of a file, a ``data:`` URI or base64.

        Raises:
            UrlNotAllowed, InputUnavailable, InvalidBase64, InvalidRequest
        """
        if is_reference(text[:8].encode("utf-8", "replace")):
            return await (self.find(text) if text.startswith("file_") else self._fetch(text))
        decoder = DataUriDecoder()

        async def pieces() -> AsyncIterator[View]:
            yield decoder.feed(text.encode())
            yield decoder.finish()

        return await self.receive_base64(pieces())

    async def find(self, file_id: str) -> File:
        """A file that the caller has here already. Raises InvalidRequest: there is none."""
        self._count_input()
        file = await self._shelf.get(file_id, owner=self._owner if self._sees is None else self._sees)
        if file is None:
            raise InvalidRequest(f"there is no file {file_id[:60]}", field="file_id")
        check_input(file)
        return file

    async def _fetch(self, url: str) -> File:
        try:
            async with asyncio.timeout(FETCH_SECONDS) as limit, self._fetcher.open(url) as download:
                source: Source = download.sequential()
                about = download.resource
                if source.size is None and not about.end_proven and about.coding is None:
                    source = CompleteSource(source, about.media_type or "")
                return await self.receive(source, filename=about.filename, declared=about.media_type)
        except FetchFailed as exc:
            raise InputUnavailable(f"an input could not be fetched: {exc.detail}", **exc.context) from None
        except TimeoutError:
            if not limit.expired():
                raise
            raise InputUnavailable(f"an input could not be fetched within {FETCH_SECONDS:g} s") from None

    def _count_input(self) -> None:
        self._count += 1
        if self._count > MAX_INPUTS:
            raise InvalidRequest(f"at most {MAX_INPUTS} images are accepted per request")


def is_reference(head: bytes) -> bool:
    """Whether a text that begins like this is a URL or the id of a file, and not base64."""
    return head.lower().startswith((b"http://", b"https://")) or head.startswith(b"file_")


def check_input(file: File) -> None:
    """Raise UnsupportedMedia unless its bytes show that it is of one of the types that providers take."""
    if not file.shown or file.media_type not in _MEDIA_TYPES:
        names = ", ".join(sorted(name.partition("/")[2] for name in _MEDIA_TYPES))
        raise UnsupportedMedia(f"{file.filename[:60]} is {file.media_type}; accepted types: {names}")


def _param(role: Role) -> str:
    return role if role in {"image", "mask"} else "input_reference"
