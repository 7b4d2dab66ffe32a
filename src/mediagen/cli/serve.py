"""``mediagen serve``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mediagen import __version__, log, process
from mediagen.app.instance import Instance
from mediagen.app.stores import MEDIA_DIRECTORY
from mediagen.core.errors import MediagenError
from mediagen.settings import ConfigurationError, Settings, load

BAD_CONFIGURATION = 2
CANNOT_START = 1


def serve(config: Path | None, *, host: str | None, port: int | None, data_dir: Path | None) -> int:
    """Run the server; the exit status."""
    options: dict[str, Any] = {"server": {}}
    if host is not None:
        options["server"]["host"] = host
    if port is not None:
        options["server"]["port"] = port
    if data_dir is not None:
        options["data_dir"] = data_dir
    try:
        settings, used = load(config, os.environ, options)
    except ConfigurationError as exc:
        for problem in exc.problems:
            print(f"mediagen: {problem}", file=sys.stderr)
        return BAD_CONFIGURATION
    log.configure(settings.log.level, settings.log.format)
    try:
        with asyncio.Runner(loop_factory=_loop_factory(settings)) as runner:
            return runner.run(process.serve(settings, lambda instance: _banner(settings, used, instance)))
    except (OSError, MediagenError) as exc:
        print(f"mediagen: cannot start: {exc}", file=sys.stderr)
        return CANNOT_START


def _loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if settings.server.event_loop == "asyncio":
        return None
    import uvloop  # only for those who want it

    return uvloop.new_event_loop


def _banner(settings: Settings, used: Path | None, instance: Instance) -> None:
    store = settings.storage
    where = f"bucket {store.s3.bucket}" if store.backend == "s3" else f"{settings.data_dir / MEDIA_DIRECTORY}"
    lines = (
        f"mediagen {__version__}",
        f"  API     {instance.url}/v1",
        f"  data    {settings.data_dir.absolute()}",
        f"  store   {store.backend}, {where}",
        f"  config  {used.absolute() if used else 'defaults and environment'}",
    )
    print("\n".join(lines), flush=True)
    if settings.auth.needs_keys(settings.server):
        print(
            f"  keys    required{'' if instance.opened else '; there is none yet: mediagen keys create NAME'}",
            flush=True,
        )
    elif not settings.server.loopback or settings.server.public_url or settings.server.trusted_proxies:
        print("  warning: no keys are required; anybody who reaches this address can use it", flush=True)
