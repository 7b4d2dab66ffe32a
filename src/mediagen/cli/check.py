"""``mediagen check``."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mediagen.providers.settings import BUILTIN
from mediagen.settings import ConfigurationError, Settings, load, redacted
from mediagen.web.auth.operator_file import found

GOOD: Final = 0
WARNINGS: Final = 1
UNUSABLE: Final = 2
SHORT_ADMIN_KEY: Final = 24


@dataclass(frozen=True, slots=True)
class Fault:
    """A setting, and what is wrong with it. ``fatal``: the server cannot start or the part cannot work at all."""

    setting: str
    says: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{'error' if self.fatal else 'warning'}: {self.setting}: {self.says}"


def check(config: Path | None) -> int:
    """Print the effective configuration; the exit status."""
    try:
        settings, used = load(config, os.environ)
    except ConfigurationError as exc:
        for problem in exc.problems:
            print(f"error: {problem}", file=sys.stderr)
        return UNUSABLE
    print(json.dumps(redacted(settings), indent=2))
    print(f"configuration: {used or 'defaults and environment'}", file=sys.stderr)
    faults = sorted(
        (*_of_access(settings), *_of_address(settings), *_of_storage(settings), *_of_providers(settings)),
        key=lambda fault: not fault.fatal,
    )
    for fault in faults:
        print(fault, file=sys.stderr)
    if any(fault.fatal for fault in faults):
        return UNUSABLE
    return WARNINGS if faults else GOOD


def nearest_existing(path: Path) -> Path:
    """``path``, or the nearest directory above it that exists: the first start makes the rest."""
    nearest = path.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    return nearest


def _of_access(settings: Settings) -> Iterator[Fault]:
    if not settings.auth.needs_keys(settings.server):
        if not settings.server.loopback:
            yield Fault("auth.required", "other machines can reach the server, and no keys are required", fatal=False)
        elif settings.server.public_url or settings.server.trusted_proxies:
            says = "no keys are required, so anybody who reaches the proxy in front can use the server"
            yield Fault("auth.required", says, fatal=False)
    admin_key = settings.auth.admin_key.get_secret_value()
    if 0 < len(admin_key) < SHORT_ADMIN_KEY:
        says = f"is short; {SHORT_ADMIN_KEY} or more random characters cannot be guessed"
        yield Fault("auth.admin_key", says, fatal=False)
    if "*" in settings.server.cors_origins:
        yield Fault("server.cors_origins", "every page may use the server", fatal=False)


def _of_address(settings: Settings) -> Iterator[Fault]:
    """Binds the address for a moment: with a free port first, since the configured one may be in use."""
    host, port = settings.server.host, settings.server.port
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
    except (OSError, UnicodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        yield Fault("server.host", f"{host!r} does not resolve to an address ({reason})")
        return
    try:
        with socket.socket(family, kind, proto) as sock:
            sock.bind(address)
    except OSError as exc:
        says = "is not an address of this machine" if exc.errno == errno.EADDRNOTAVAIL else f"{exc.strerror}"
        yield Fault("server.host", f"{host}: {says}")
        return
    if found(settings.data_dir) is not None:
        return  # the server of this configuration runs, and has the port
    try:
        with socket.socket(family, kind, proto) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address[0], port, *address[2:]))
    except PermissionError:
        yield Fault("server.port", f"this user may not listen on port {port}")
    except OSError as exc:
        yield Fault("server.port", f"{port}: {exc.strerror}; another program listens there", fatal=False)


def _of_storage(settings: Settings) -> Iterator[Fault]:
    nearest = nearest_existing(settings.data_dir)
    if not nearest.is_dir():
        yield Fault("data_dir", f"{nearest} is not a directory")
    elif not os.access(nearest, os.W_OK | os.X_OK):
        yield Fault("data_dir", f"{nearest} cannot be written by this user")
    if settings.storage.backend != "s3":
        return
    s3 = settings.storage.s3
    if not s3.bucket:
        yield Fault("storage.s3.bucket", "is empty; name the bucket that files go to")
    if s3.endpoint_url and not s3.endpoint_url.startswith(("http://", "https://")):
        yield Fault("storage.s3.endpoint_url", f"{s3.endpoint_url!r} is not a URL; it begins with http:// or https://")
    if bool(s3.access_key_id) != bool(s3.secret_access_key.get_secret_value()):
        missing = "secret_access_key" if s3.access_key_id else "access_key_id"
        yield Fault(f"storage.s3.{missing}", "is empty; access_key_id and secret_access_key go together")
    at_once, room = settings.tasks.lanes["ingest"], settings.storage.buffer_bytes * 3 // 4 // s3.part_bytes
    if at_once > max(1, room):
        says = (
            f"of {at_once} downloads without ranges, {max(1, room)} run at once: each holds storage.s3.part_bytes of it"
        )
        yield Fault("storage.buffer_bytes", says, fatal=False)
    if s3.ca_file and not Path(s3.ca_file).is_file():
        yield Fault("storage.s3.ca_file", f"there is no file {s3.ca_file}")


def _of_providers(settings: Settings) -> Iterator[Fault]:
    for name, provider in settings.providers.items():
        needs_key = provider.enabled and provider.type != BUILTIN and not provider.base_url
        if needs_key and not provider.api_key.get_secret_value():
            says = (
                f"is empty; {provider.type} answers no call without a key (api_key, or api_key_file for one in a file)"
            )
            yield Fault(f"providers.{name}.api_key", says)
