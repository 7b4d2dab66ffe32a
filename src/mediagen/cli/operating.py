"""What the operator's commands share: through the server that runs on this data directory, or else in its database."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from mediagen import log
from mediagen.app import DATABASE_FILE
from mediagen.cli.client import CannotReach, Client, Refused
from mediagen.core.errors import MediagenError
from mediagen.db.connection import Database
from mediagen.settings import ConfigurationError, Settings, load
from mediagen.web.operator import found
from mediagen.web.problems import status_of

OK: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 2
_NOT_AS_IT_IS: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})


def operate(
    config: Path | None,
    call: tuple[str, str, Mapping[str, Any] | None],
    in_database: Callable[[Database, Settings], Awaitable[BaseModel]],
    show: Callable[[dict[str, Any]], None],
) -> int:
    """Carry out one command and show its answer; the exit status.

    Args:
        call: method, path and body for a running server.
        in_database: the same as the server would do it, where none runs.
    """
    try:
        settings, _ = load(config, os.environ)
        log.configure("error", settings.log.format)
        answer = _ask_server(settings, call)
        if answer is None:
            answer = asyncio.run(_without_server(settings, in_database))
    except ConfigurationError as exc:
        for problem in exc.problems:
            print(f"mediagen: {problem}", file=sys.stderr)
        return UNUSABLE
    except Refused as exc:
        print(f"mediagen: {exc.code}: {exc}", file=sys.stderr)
        return FAILED if exc.status in _NOT_AS_IT_IS else UNUSABLE
    except (CannotReach, OSError) as exc:
        print(f"mediagen: {exc}", file=sys.stderr)
        return UNUSABLE
    show(answer)
    return OK


def _ask_server(settings: Settings, call: tuple[str, str, Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The answer of the server that runs; None: none runs."""
    access = found(settings.data_dir)
    if access is None:
        return None
    try:
        return Client(access.url, key=access.key).call(*call)
    except CannotReach:
        return None  # it died and left the file; if it lives all the same, its lock on the database says so


async def _without_server(
    settings: Settings, in_database: Callable[[Database, Settings], Awaitable[BaseModel]]
) -> dict[str, Any]:
    """Raises Refused as a server would answer."""
    try:
        async with Database(settings.data_dir / DATABASE_FILE) as database:
            answer = await in_database(database, settings)
    except MediagenError as exc:
        raise Refused(status_of(type(exc)), exc.code, exc.detail) from None
    return answer.model_dump(mode="json")
