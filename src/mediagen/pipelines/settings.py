"""Settings of the recipes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mediagen.core.files import FileKind
from mediagen.media.image_decoder import DecodeLimits
from mediagen.streams.base import GIB, MIB


class LimitsSettings(BaseModel):
    """How much is taken in: bytes by kind of media and in all, uploads, requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_bytes: int = Field(50 * MIB, ge=1, description="largest image in bytes")
    video_bytes: int = Field(5 * GIB, ge=1, description="largest video in bytes")
    file_bytes: int = Field(10 * GIB, ge=1, description="largest file of any other kind in bytes")
    inline_image_bytes: int = Field(
        4 * MIB,
        ge=0,
        description="largest image that a response contains as base64 beside its URL, if the request "
        "does not choose a format; 0: none",
    )
    store_bytes: int = Field(
        0, ge=0, description="most bytes of all files together, running transfers included; 0: no limit"
    )
    pixels: int = Field(
        100_000_000, ge=1, description="most pixels of an image, or of a video frame, that the server decodes"
    )
    image_side: int = Field(
        65_535, ge=1, description="greatest width and height, in pixels, of an image that the server decodes"
    )
    decode_memory: int = Field(GIB, ge=128 * MIB, description="memory in bytes for decoding one image")
    decode_seconds: int = Field(10, ge=1, le=600, description="processor time in seconds for decoding one image")
    decodes_at_once: int = Field(
        2, ge=1, le=64, description="images decoded at once, at most half of them for one owner; more wait"
    )
    uploads_at_once: int = Field(
        64,
        ge=1,
        description="uploads at once, at most half of them from one address; more are rejected with 503 or 429",
    )
    requests_per_minute: int = Field(0, ge=0, description="requests per minute with one key; 0: no limit")
    requests_per_minute_per_ip: int = Field(
        600,
        ge=0,
        description="requests per minute from one address (IPv6: one /64), in one burst if need be; 0: no limit",
    )

    @property
    def decoding(self) -> DecodeLimits:
        """Those of pictures that are decoded here."""
        return DecodeLimits(self.pixels, self.image_side, self.decode_memory, self.decode_seconds, self.decodes_at_once)

    @property
    def largest(self) -> int:
        """Bytes above which a file is too large whatever it is."""
        return max(self.image_bytes, self.video_bytes, self.file_bytes)

    def for_kind(self, kind: FileKind) -> int:
        """The limit in bytes."""
        match kind:
            case FileKind.IMAGE:
                return self.image_bytes
            case FileKind.VIDEO:
                return self.video_bytes
            case _:
                return self.file_bytes
