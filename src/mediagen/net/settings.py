"""Settings of outgoing requests to addresses that users or providers name."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork


class FetchSettings(BaseModel):
    """Where downloads may go and how long they may take. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow_cidrs: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="networks that may be reached although they are not public, on any port"
    )
    deny_cidrs: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="networks that are never reached, whatever else is allowed"
    )
    ports: tuple[int, ...] = Field(default=(80, 443), description="ports allowed on public addresses")
    connect_seconds: float = Field(default=10.0, gt=0, description="limit for making a connection: name, TCP and TLS")
    first_byte_seconds: float = Field(
        default=30.0, gt=0, description="limit for the head of the response, from the request on"
    )
    stall_seconds: float = Field(default=30.0, gt=0, description="longest silence in the middle of a body")
    total_seconds: float = Field(default=3600.0, gt=0, description="limit for a whole download")
    attempts: int = Field(default=3, ge=1, le=20, description="tries in a row without progress before giving up")
    max_redirects: int = Field(
        default=10, ge=0, le=20, description="most redirects to follow, each checked like the first URL"
    )
    connections_per_host: int = Field(
        default=64, ge=1, le=1024, description="connections to one host, shared by all its transfers"
    )
