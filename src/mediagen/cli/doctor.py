"""``mediagen doctor``: looks at everything that a server needs, and says what to do about what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mediagen import log
from mediagen.app.stores import DATABASE_FILE, MEDIA_DIRECTORY
from mediagen.cli import machine
from mediagen.cli.machine import Finding
from mediagen.cli.roundtrip import store_findings
from mediagen.settings import ConfigurationError, Settings, load

HEALTHY: Final = 0
ILL: Final = 1


def doctor(config: Path | None, *, as_json: bool) -> int:
    """Print a line for each thing looked at; the exit status."""
    failed = False
    for finding in _findings(config):
        failed |= finding.status == "fail"
        print(json.dumps(finding.as_dict()) if as_json else _line(finding), flush=True)
    return ILL if failed else HEALTHY


def _findings(config: Path | None) -> Iterator[Finding]:
    try:
        settings, used = load(config, os.environ)
    except ConfigurationError as exc:
        # what needs no settings is told all the same
        for problem in exc.problems:
            yield Finding("configuration", "fail", problem, "correct it; mediagen check says what is in effect")
    else:
        log.configure("error", settings.log.format)
        yield Finding("configuration", "ok", f"{used or 'defaults and environment'}")
        yield from _of_settings(settings)
    yield machine.sqlite()
    yield machine.open_files()
    yield from machine.programs()


def _of_settings(settings: Settings) -> Iterator[Finding]:
    yield from machine.data_directory(settings.data_dir)
    yield from machine.recorded_time(settings.data_dir / DATABASE_FILE)
    if settings.storage.backend == "local" and not (settings.data_dir / MEDIA_DIRECTORY).is_dir():
        # made here it could belong to another user than the server's
        yield Finding("store", "ok", "local; its folder will be made by the first start")
        return
    yield from asyncio.run(store_findings(settings))


def _line(finding: Finding) -> str:
    advice = f"\n{'':22}→ {finding.advice}" if finding.advice else ""
    return f"{finding.status:<5} {finding.name:<15} {finding.says}{advice}"
