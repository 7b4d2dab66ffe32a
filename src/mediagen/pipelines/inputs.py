"""Pictures that come with a request: stored before its task is made, read again whenever they are sent on.

What a caller sends, or names by a URL or by the id of a file, becomes a file; the task's request keeps ids alone, so
a retry has the same inputs, and a link that has died meanwhile does no harm.
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
"""Of one request: sixteen pictures and a mask."""
FETCH_SECONDS: Final = 60.0
"""For an input behind a URL, since its caller waits for the answer."""
FILE_ID: Final = r"^file_[0-9a-f]{32}$"

_TAKEN: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""Media types that providers take."""


class InputRef(BaseModel):
    """An input of a task: what it is for, and which file it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    file_id: Annotated[str, StringConstraints(pattern=FILE_ID)]


class Shelf(Protocol):
    """Where files are looked up."""

    async def get(self, file_id: str, *, owner: str | None = None) -> File | None:
        """The file, or None, also when it is another owner's; ``owner`` None: whosever it is."""


class InputLoader:
    """Looks up the inputs of tasks."""

    def __init__(self, shelf: Shelf, storage: Storage) -> None:
        self._shelf = shelf
        self._storage = storage

    async def load(self, refs: Iterable[InputRef], *, owner: str | None) -> tuple[Input, ...]:
        """The inputs, in their order. Raises InvalidRequest when a file is gone, or is not the owner's."""
        found = []
        for ref in refs:
            file = await self._shelf.get(ref.file_id, owner=owner)
            if file is None:
                raise InvalidRequest(f"the input {ref.file_id} no longer exists", param=_param(ref.role))
            found.append(self._made_of(file, ref.role, owner))
        return tuple(found)

    def _made_of(self, file: File, role: Role, owner: str | None) -> Input:
        """A file as an input of a task of ``owner``. Raises UnsupportedMedia when it is none."""
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
    """The inputs of one request. What is stored here and was not ``claimed`` is removed when the block is left.

    Every call raises TooLarge, UnsupportedMedia, StorageUnavailable, StorageFull and their kin.
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
        """Of the task that is to be made: the files name it."""
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
        """Files that are new, without rows yet."""
        return [pending.file for pending in self._pending]

    def claim(self) -> None:
        """The files are rows now."""
        for pending in self._pending:
            pending.claim()

    async def take(self, source: Source, *, filename: str, declared: str | None) -> File:
        """What comes in the request itself. Raises what the source raises as well."""
        self._counted()
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

    async def decoded(self, chunks: AsyncIterator[View]) -> File:
        """Bytes that were base64 in the request."""
        return await self.take(ChunkSource(chunks), filename="", declared=None)

    async def named(self, text: str) -> File:
        """What a text stands for: a URL, the id of a file, a ``data:`` URI or base64.

        Raises:
            UrlNotAllowed, InputUnavailable, InvalidBase64, InvalidRequest
        """
        if is_name(text[:8].encode("utf-8", "replace")):
            return await (self.existing(text) if text.startswith("file_") else self._fetched(text))
        decoder = DataUriDecoder()

        async def pieces() -> AsyncIterator[View]:
            yield decoder.feed(text.encode())
            yield decoder.finish()

        return await self.decoded(pieces())

    async def existing(self, file_id: str) -> File:
        """A file that the caller has here. Raises InvalidRequest when there is none."""
        self._counted()
        file = await self._shelf.get(file_id, owner=self._owner if self._sees is None else self._sees)
        if file is None:
            raise InvalidRequest(f"there is no file {file_id[:60]}", field="file_id")
        check_input(file)
        return file

    async def _fetched(self, url: str) -> File:
        try:
            async with asyncio.timeout(FETCH_SECONDS) as limit, self._fetcher.open(url) as download:
                source: Source = download.sequential()
                about = download.resource
                if source.size is None and not about.end_proven and about.coding is None:
                    source = CompleteSource(source, about.media_type or "")
                return await self.take(source, filename=about.filename, declared=about.media_type)
        except FetchFailed as exc:
            raise InputUnavailable(f"an input could not be fetched: {exc.detail}", **exc.context) from None
        except TimeoutError:
            if not limit.expired():
                raise
            raise InputUnavailable(f"an input could not be fetched within {FETCH_SECONDS:g} s") from None

    def _counted(self) -> None:
        self._count += 1
        if self._count > MAX_INPUTS:
            raise InvalidRequest(f"at most {MAX_INPUTS} images are accepted per request")


def is_name(head: bytes) -> bool:
    """Whether a text that begins so names its content, a URL or the id of a file, and is not the content itself."""
    return head.lower().startswith((b"http://", b"https://")) or head.startswith(b"file_")


def check_input(file: File) -> None:
    """Raise UnsupportedMedia unless its bytes show that it is of one of the types that providers take."""
    if not file.shown or file.media_type not in _TAKEN:
        names = ", ".join(sorted(name.partition("/")[2] for name in _TAKEN))
        raise UnsupportedMedia(f"{file.filename[:60]} is {file.media_type}; accepted types: {names}")


def _param(role: Role) -> str:
    return role if role in {"image", "mask"} else "input_reference"
