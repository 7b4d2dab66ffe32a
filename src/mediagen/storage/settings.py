"""Settings of the store."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from mediagen.streams.base import MIB
from mediagen.streams.parts import MIN_PART


class S3Settings(BaseModel):
    """An S3-compatible bucket."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket: str = Field(default="", description="name of the bucket; it must exist")
    prefix: str = Field(default="", description="prefix of all object keys, for example 'mediagen/'")
    endpoint_url: str = Field(default="", description="URL of an S3-compatible store; empty: Amazon S3")
    region: str = Field(default="us-east-1", description="region that requests are signed for")
    access_key_id: str = Field(default="", description="empty: searched for in the usual places of the AWS tools")
    secret_access_key: SecretStr = Field(default=SecretStr(""), description="goes with access_key_id")
    part_bytes: int = Field(
        default=8 * MIB, ge=MIN_PART, description="bytes of a part, more when 10,000 do not suffice"
    )
    parts_in_flight: int = Field(default=4, ge=1, le=64, description="parts of one object in flight at once")
    distant_parts_in_flight: int = Field(
        default=16,
        ge=1,
        le=64,
        description="the same for a store that takes over 30 ms to respond, for downloads read in ranges",
    )
    path_style: Literal["auto", "always", "never"] = Field(
        default="auto", description="put the bucket in the path instead of the host name; auto: if endpoint_url is set"
    )
    serve: Literal["redirect", "stream"] = Field(
        default="redirect",
        description='how clients get files: "redirect" sends them to the store with a presigned '
        'link; "stream" passes the bytes through this server, for a store that clients cannot or must not reach',
    )
    checksum: Literal["auto", "crc32", "none"] = Field(
        default="auto", description="checksum header with buffered uploads; auto: crc32 on Amazon S3, none elsewhere"
    )
    sign_payload: bool = Field(
        default=False, description="sign bodies too, for a store over plain http that is not trusted; needs buffering"
    )
    ca_file: str = Field(default="", description="PEM file of the authority that signed the store's certificate")
    connect_seconds: float = Field(default=10.0, gt=0, description="limit for making a connection")
    answer_seconds: float = Field(
        default=60.0, gt=0, description="limit for a response, besides the time for its bytes"
    )
    minimum_bytes_per_second: int = Field(
        default=32 * 1024, ge=1, description="slowest upload to the store that is tolerated"
    )
    attempts: int = Field(default=6, ge=1, le=20, description="tries of one request before the transfer fails")

    @property
    def sends_checksums(self) -> bool:
        """Whether buffered bodies carry a CRC-32 header; stores other than Amazon's often refuse it."""
        if self.checksum != "auto":
            return self.checksum == "crc32"
        host = urlsplit(self.endpoint_url).hostname or "amazonaws.com"
        return host.endswith(("amazonaws.com", "amazonaws.com.cn"))


class StorageSettings(BaseModel):
    """Where bytes rest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Literal["local", "s3"] = Field(default="local", description='"local": disk below data_dir; "s3": a bucket')
    public_base_url: str = Field(default="", description="URL of a CDN in front of the store, without trailing slash")
    url_ttl_seconds: int = Field(default=900, ge=1, le=604800, description="lifetime of links to files, in seconds")
    reserve_bytes: int = Field(default=64 * MIB, ge=0, description="free space in bytes to leave on the local disk")
    buffer_bytes: int = Field(
        default=64 * MIB,
        ge=8 * MIB,
        description="memory for part buffers, shared by all transfers of the process; a quarter is kept "
        "for uploads and other requests that wait. To S3, each transfer without ranges holds part_bytes or more",
    )
    sha256: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="SHA-256 of files whose bytes arrive in order; auto: unless hashing cannot keep "
        "up; a CRC-32 is always computed",
    )
    s3: S3Settings = S3Settings()
