"""Settings of the HTTP edge."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr

from mediagen.streams.base import GIB, MIB

MIN_ADMIN_KEY: Final = 8


def _public_url(value: str) -> str:
    if not value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and name a host")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("must be scheme and host alone; a path belongs into server.base_path")
    return f"{parts.scheme}://{parts.netloc}"


def _base_path(value: str) -> str:
    path = value.strip("/")
    if not path:
        return ""
    if any(segment in {"", ".", ".."} or not segment.isascii() for segment in path.split("/")):
        raise ValueError("must be a plain path like /media")
    if set(path) & set("{}?#% \\"):
        raise ValueError("must be a plain path like /media")
    return f"/{path}"


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path or parts.query or parts.fragment:
        raise ValueError(f"{value!r} is not an origin like https://app.example.com")
    return value.lower()


def _long_enough(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text and (len(text) < MIN_ADMIN_KEY or not text.isascii() or not text.isprintable() or " " in text):
        raise ValueError(f"must have {MIN_ADMIN_KEY} or more printable ASCII characters without blanks")
    return value


def _host(value: str) -> str:
    name = value.lower().removesuffix(".")
    if not name or "/" in name or " " in name:
        raise ValueError(f"{value!r} is not a host name")
    return name


class ServerSettings(BaseModel):
    """How we listen and how the outside reaches us."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    public_url: Annotated[str, AfterValidator(_public_url)] = Field(
        "", description="scheme and host that clients use for this server; empty: as in each request"
    )
    base_path: Annotated[str, AfterValidator(_base_path)] = Field("", description="path prefix of every route")
    allowed_hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = Field(
        (), description="host names to accept; empty: on a loopback address only local names, otherwise any"
    )
    cors_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        (), description="origins whose web pages may call this API"
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        (),
        description="networks of proxies whose X-Forwarded-For, -Proto and -Host are trusted; each "
        "proxy must set or extend all three",
    )
    body_idle_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="seconds without progress after which a request body, or a client reading a file, is given up",
    )
    body_minimum_bytes_per_second: int = Field(
        1024,
        ge=0,
        description="slowest accepted request body, or client reading a response, averaged over "
        "body_idle_seconds; 0: no limit",
    )
    header_seconds: float = Field(30.0, gt=0, le=3600, description="seconds for a request's head to arrive")
    keepalive_seconds: float = Field(30.0, gt=0, le=3600, description="seconds that an idle connection is kept open")
    max_connections: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description='most connections at once; "auto": 10,000, or fewer if the process may not open enough files',
    )
    max_connections_per_ip: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="most connections from one address (IPv6: one /64), trusted proxies excepted; 0: "
        'no limit; "auto": half of all, or no limit on a loopback address',
    )
    drain_seconds: float = Field(
        20.0, ge=1, le=3600, description="seconds that a stop may take, from SIGTERM to the end of the process"
    )
    max_json_bytes: int = Field(
        8 * MIB, ge=1024, le=GIB, description="largest JSON body in bytes, not counting file content"
    )
    max_json_values: int = Field(
        20_000, ge=100, le=1_000_000, description="most values in a JSON body; ten thousand take the server about 10 ms"
    )
    event_loop: Literal["asyncio", "uvloop"] = Field("asyncio", description='event loop: "asyncio" or "uvloop"')
    lag_interval_seconds: float = Field(0.1, ge=0.01, le=10, description="seconds between measurements of loop lag")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach us."""
        return is_loopback(self.host)

    def listening_url(self, port: int) -> str:
        """The address that the server listens on, with the base path."""
        return f"http://{_in_url(self.host)}:{port}{self.base_path}"

    def local_url(self, port: int) -> str:
        """Where this machine reaches the server: a wildcard address stands for loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{_in_url(host)}:{port}{self.base_path}"


class AuthSettings(BaseModel):
    """Who may call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    required: Literal["auto"] | bool = Field(
        "auto", description='whether clients need a key; "auto": unless the server listens on a loopback address'
    )
    admin_key: Annotated[SecretStr, AfterValidator(_long_enough)] = Field(
        SecretStr(""), description="a key that allows everything, at least 8 characters; empty: none"
    )

    def needs_keys(self, server: ServerSettings) -> bool:
        """Whether callers of ``server`` need a key."""
        return not server.loopback if self.required == "auto" else self.required


def is_loopback(host: str) -> bool:
    """Whether ``host`` is ``localhost`` or an address of the loopback network."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _in_url(host: str) -> str:
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host
