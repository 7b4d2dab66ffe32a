"""Files: what rests in the store."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from mediagen.core.presentation import PLAIN_BYTES, may_be_shown

TYPE_FROM: Final = "media_type_from"
"""Metadata: where the media type comes from; ``CLAIM``: somebody said so and the bytes did not show it."""
CLAIM: Final = "claim"


class FileKind(StrEnum):
    """Kind of a file, determined by its bytes, then its media type, then its name."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    SUBTITLE = "subtitle"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Checksum:
    """A digest of the whole file. ``value`` is lower-case hex; algorithm ``crc32`` is that of RFC 1952."""

    algorithm: str
    value: str


@dataclass(frozen=True, slots=True)
class File:
    """A whole object in the store. It exists only once the store has it completely.

    ``key`` is where the bytes are, made by us and never from a user's file name; ``filename`` is metadata.
    ``sha256`` is None when the bytes came out of order (a download in parallel parts); ``checksum`` is always there.
    """

    id: str
    key: str
    filename: str
    bytes: int
    media_type: str
    kind: FileKind
    checksum: Checksum
    created_at: datetime
    etag: str
    """Strong validator (RFC 9110 section 8.8.3) without quotes, made from the content checksum and the id."""
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    task_id: str | None = None
    owner: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    variant_of: str | None = None
    """The file that it is a picture of, and goes with."""
    variant: str | None = None
    """What picture: ``thumbnail``, ``spritesheet``."""
    variants: tuple[File, ...] = ()
    """Files made of this one so far, by name; filled in where a file is read."""

    @property
    def shown(self) -> bool:
        """Whether a browser may show it in a page: its bytes prove a type that cannot hold a script."""
        return self.metadata.get(TYPE_FROM) != CLAIM and may_be_shown(self.media_type)

    @property
    def served_type(self) -> str:
        """The ``Content-Type`` to send it with."""
        return self.media_type if self.shown else PLAIN_BYTES


@dataclass(frozen=True, slots=True)
class FileQuery:
    """A page of files. ``after`` is the last id of the page before; the order is by creation time, then id."""

    kind: FileKind | None = None
    limit: int = 20
    after: str | None = None
    descending: bool = True
    owner: str | None = None


def new_id(prefix: str) -> str:
    """``prefix_`` and 128 random bits in hex."""
    return f"{prefix}_{secrets.token_hex(16)}"
