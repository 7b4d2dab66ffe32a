"""Media in base64 inside the JSON body of a request, decoded and stored while the body arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from mediagen.core.errors import UnsupportedMedia
from mediagen.core.files import File, FileKind
from mediagen.net.resource import clean_filename
from mediagen.pipelines.saving.placement import Placement
from mediagen.pipelines.saving.request_upload import RequestUploads
from mediagen.streams.formats.sniff import SNIFF_BYTES
from mediagen.streams.json.media_field import EmbeddedMedia
from mediagen.streams.json.scanner import Pointer, Rules
from mediagen.streams.sources import ChunkSource, Peeked

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

    def __init__(self, uploads: RequestUploads) -> None:
        self._uploads = uploads

    @asynccontextmanager
    async def receive(
        self,
        body: AsyncIterator[bytes],
        *,
        task_id: str,
        rules: Rules,
        owner: str | None = None,
        network: str = "",
    ) -> AsyncIterator[Received]:
        """The body, its media stored. The block makes rows of it; when the block fails, the object is removed.

        Args:
            task_id: the id that the task will have.
            rules: what the body may have beside its media.
            network: whose upload it is (``RequestUploads.place``).

        Raises:
            InvalidRequest, InvalidBase64, TooLarge, StorageUnavailable, Unavailable, RateLimited: and nothing was kept.
        """
        media = EmbeddedMedia(body, FIELD, rules)
        source = Peeked(ChunkSource(media.chunks(required=False)))
        head = await source.peek(SNIFF_BYTES)
        if not media.found:
            yield Received(media.document, None)
            return
        placement = Placement.make(head, declared=media.media_type, filename="", wanted=None)
        with self._uploads.place(network):
            async with self._uploads.save(placement, source, task_id=task_id, owner=owner) as file:
                yield Received(media.document, file)
