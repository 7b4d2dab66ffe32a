"""What every recipe that keeps a file needs: a plan of where it goes, and the row that says where it went."""

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
    """What a recipe keeps files with."""

    storage: Storage
    pool: BufferPool
    threads: Executor
    limits: LimitsSettings
    sha256: Sha256Mode = "auto"
    tally: TransferTotals = field(default_factory=TransferTotals)
    quota: Quota = field(default_factory=Quota)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a file will be. Made before the first byte is stored and saved with the task, so that a crash finds it.

    The key is made of our own id, never of a name that somebody gave.
    """

    file_id: str
    key: str
    filename: str
    media_type: str
    kind: FileKind
    proven: bool = True
    """The bytes show the media type; otherwise it is what somebody claims, and not to be shown as such."""
    upload: Mapping[str, Any] | None = None
    """``Sink.state`` once there is something to resume."""
    source: Mapping[str, Any] | None = None
    """What the source said of itself, to tell whether it is still the same."""

    @classmethod
    def make(cls, head: bytes, *, declared: str | None, filename: str, wanted: FileKind | None) -> Placement:
        """The plan for a file with these first bytes.

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
        """The media type that the store is told."""
        return self.media_type if self.proven else PLAIN_BYTES

    @property
    def cleanup_state(self) -> dict[str, Any]:
        """The state by which the store removes what was begun of it."""
        return dict(self.upload or {"key": self.key, "token": self.token})

    @property
    def token(self) -> str:
        """The word that is kept with the object."""
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
        """Watches the bytes for what their heads say; for nothing where they do not show what they are."""
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
    """The plans that a checkpoint holds: its own, or those of the results of an attempt that makes several."""
    if "file_id" in checkpoint:
        return [Placement.from_checkpoint(checkpoint)]
    saved = [*checkpoint.get("kept", ()), checkpoint.get("transfer") or {}]
    return [Placement.from_checkpoint(placement) for placement in saved if placement]


async def remove(storage: Storage, saved: Mapping[str, Any]) -> None:
    """Remove whatever plans that will not be carried on have left: unfinished uploads, or objects without a row."""
    for placement in placements_in(saved):
        await storage.remove(placement.cleanup_state)


def late_write_cleanups(
    storage: Storage, checkpoint: Mapping[str, Any], *, earlier: bool = False
) -> list[dict[str, Any]]:
    """The debts (``tasks.debts``) that stay when what this checkpoint names is removed, or has become files.

    They are for the plans about which the store may still carry out a request. ``earlier``: another process made
    those, so that nothing is known of them.
    """
    if not storage.acts_late:
        return []
    return [
        {"look": {**placement.cleanup_state, "every": True}, "file_id": placement.file_id}
        for placement in placements_in(checkpoint)
        if earlier or storage.in_doubt(placement.key)
    ]
