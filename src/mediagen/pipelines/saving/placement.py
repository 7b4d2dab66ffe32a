"""Placement: where a file will be stored, decided and recorded before its first byte, and its row afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from mediagen.core.errors import UnsupportedMedia
from mediagen.core.files import CLAIM, TYPE_FROM, File, FileKind, new_id
from mediagen.core.presentation import PLAIN_BYTES
from mediagen.core.text import repaired_text
from mediagen.pipelines.saving.quota import Quota
from mediagen.pipelines.settings import LimitsSettings
from mediagen.storage.base import Storage
from mediagen.streams.digest import Sha256Mode, crc32_checksum
from mediagen.streams.formats.dimensions import Dimensions
from mediagen.streams.formats.probe import Probe
from mediagen.streams.formats.sniff import extension_of, kind_of, media_type_of, possible
from mediagen.streams.meter import TransferTotals
from mediagen.streams.pool import BufferPool
from mediagen.streams.transfer import TransferResult

_FOLDERS: Final[Mapping[FileKind, str]] = {
    FileKind.IMAGE: "assets/images",
    FileKind.VIDEO: "videos",
    FileKind.AUDIO: "assets/audio",
    FileKind.SUBTITLE: "assets/subtitles",
    FileKind.OTHER: "assets/files",
}


@dataclass(frozen=True, slots=True)
class StoreContext:
    """What is needed to store files."""

    storage: Storage
    pool: BufferPool
    threads: Executor
    limits: LimitsSettings
    sha256: Sha256Mode = "auto"
    tally: TransferTotals = field(default_factory=TransferTotals)
    quota: Quota = field(default_factory=Quota)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a file will be stored. Recorded before the first byte, so that its leftovers are found after a crash.

    The key comes from our own id, never from a client's file name.
    """

    file_id: str
    key: str
    filename: str
    media_type: str
    kind: FileKind
    proven: bool = True
    """Whether the bytes show the media type; otherwise it is a claim, and never served as such."""
    upload: Mapping[str, Any] | None = None
    """``Sink.state``, once there is an upload to resume."""
    source: Mapping[str, Any] | None = None
    """Size and validator of the source, to tell whether it is unchanged."""

    @classmethod
    def make(cls, head: bytes, *, declared: str | None, filename: str, wanted: FileKind | None) -> Placement:
        """The placement of a file with these first bytes.

        Raises:
            UnsupportedMedia: the bytes are of another kind than ``wanted``.
        """
        media_type = media_type_of(head, declared=declared, filename=filename, wanted=wanted)
        kind = kind_of(media_type)
        if wanted is not None and wanted is not kind:
            raise UnsupportedMedia(f"a file of kind {wanted} was requested, but this is {media_type}")
        file_id = new_id("file")
        extension = extension_of(media_type)
        return cls(
            file_id=file_id,
            key=f"{_FOLDERS[kind]}/{file_id}{extension}",
            filename=repaired_text(filename) or f"{file_id}{extension}",
            media_type=media_type,
            kind=kind,
            proven=media_type in possible(head),
        )

    @property
    def stored_type(self) -> str:
        """The media type for the store."""
        return self.media_type if self.proven else PLAIN_BYTES

    @property
    def cleanup_state(self) -> dict[str, Any]:
        """The state by which the store removes an unfinished or unwanted object."""
        return dict(self.upload or {"key": self.key, "token": self.token})

    @property
    def token(self) -> str:
        """The token that is stored with the object."""
        return self.file_id

    def as_checkpoint(self) -> dict[str, Any]:
        return {
            "file_id": self.file_id,
            "key": self.key,
            "filename": self.filename,
            "media_type": self.media_type,
            "kind": str(self.kind),
            "proven": self.proven,
            "upload": None if self.upload is None else dict(self.upload),
            "source": None if self.source is None else dict(self.source),
        }

    @classmethod
    def from_checkpoint(cls, saved: Mapping[str, Any]) -> Placement:
        return cls(**{**saved, "kind": FileKind(saved["kind"])})

    def with_upload(self, state: Mapping[str, Any]) -> Placement:
        return replace(self, upload=state)

    def probe(self) -> Probe:
        """A probe that reads dimensions and duration from the bytes; of a claimed type it reads nothing."""
        return Probe(self.media_type if self.proven else "")

    def file(self, moved: TransferResult, shape: Dimensions, *, task_id: str | None, owner: str | None) -> File:
        """The row of the stored file."""
        return File(
            id=self.file_id,
            key=self.key,
            filename=self.filename,
            bytes=moved.size,
            media_type=self.media_type,
            kind=self.kind,
            checksum=crc32_checksum(moved.crc32),
            created_at=datetime.now(UTC),
            etag=f"{moved.crc32:08x}-{moved.size:x}-{self.file_id.removeprefix('file_')[:12]}",
            sha256=moved.sha256,
            width=shape.width,
            height=shape.height,
            duration_seconds=shape.duration_seconds,
            task_id=task_id,
            owner=owner,
            metadata={} if self.proven else {TYPE_FROM: CLAIM},
        )


def placements_in(checkpoint: Mapping[str, Any]) -> list[Placement]:
    """The placements in a checkpoint: its own, or those of several results."""
    if "file_id" in checkpoint:
        return [Placement.from_checkpoint(checkpoint)]
    saved = [*checkpoint.get("kept", ()), checkpoint.get("transfer") or {}]
    return [Placement.from_checkpoint(placement) for placement in saved if placement]


async def remove(storage: Storage, saved: Mapping[str, Any]) -> None:
    """Remove what the placements of a checkpoint left: unfinished uploads, and objects without a row."""
    for placement in placements_in(saved):
        await storage.remove(placement.cleanup_state)


def late_write_cleanups(
    storage: Storage, checkpoint: Mapping[str, Any], *, earlier: bool = False
) -> list[dict[str, Any]]:
    """The cleanups to record when the objects of a checkpoint are removed, or have become files.

    They are for placements to which the store may still apply a late write. ``earlier``: another process made those
    writes, so nothing is known about them.
    """
    if not storage.acts_late:
        return []
    return [
        {"look": {**placement.cleanup_state, "every": True}, "file_id": placement.file_id}
        for placement in placements_in(checkpoint)
        if earlier or storage.in_doubt(placement.key)
    ]
