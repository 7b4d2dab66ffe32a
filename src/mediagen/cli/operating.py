"""What the operator's commands share: each goes to the server that runs on the data directory, else to its database."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from mediagen import log
from mediagen.app.stores import DATABASE_FILE
from mediagen.cli.client import CannotReach, Client, Refused
from mediagen.core.errors import MediagenError
from mediagen.db.connection import Database
from mediagen.settings import ConfigurationError, Settings, load
from mediagen.web.auth.operator_file import found
from mediagen.web.http.problems import status_of

OK: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 2
_NOT_AS_IT_IS: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})


@dataclass(frozen=True, slots=True)
class Place:
    """The installation that a command works on.

    ``config`` and ``data_dir`` as given on the command line. ``init``: make a new database where there is none.
    """

    config: Path | None = None
    data_dir: Path | None = None
    init: bool = False

    def load(self) -> tuple[Settings, Path | None]:
        """The settings, and the file that was read. Raises ConfigurationError."""
        return load(self.config, os.environ, {} if self.data_dir is None else {"data_dir": self.data_dir})


class NoDatabase(Exception):
    """The data directory holds no database: most likely the command runs in the wrong folder."""


def operate(
    place: Place,
    call: tuple[str, str, Mapping[str, Any] | None],
    in_database: Callable[[Database, Settings], Awaitable[BaseModel]],
    show: Callable[[dict[str, Any]], None],
) -> int:
    """Carry out one command and show its answer; the exit status. The data directory is told on standard error.

    Args:
        call: method, path and body for a running server.
        in_database: the same as the server would do it, where none runs.
    """
    try:
        settings, used = place.load()
        log.configure("error", settings.log.format)
        answer = _ask_server(settings, call)
        if answer is None:
            if not place.init:
                _check_database(settings, used)
            answer = asyncio.run(_without_server(settings, in_database))
    except ConfigurationError as exc:
        for problem in exc.problems:
            print(f"mediagen: {problem}", file=sys.stderr)
        return UNUSABLE
    except Refused as exc:
        print(f"mediagen: {exc.code}: {exc}", file=sys.stderr)
        return FAILED if exc.status in _NOT_AS_IT_IS else UNUSABLE
    except (CannotReach, NoDatabase, OSError) as exc:
        print(f"mediagen: {exc}", file=sys.stderr)
        return UNUSABLE
    print(f"data directory: {settings.data_dir.absolute()}", file=sys.stderr)
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


def _check_database(settings: Settings, used: Path | None) -> None:
    """Raises NoDatabase, with the places that were searched and the options that name others."""
    database = settings.data_dir.absolute() / DATABASE_FILE
    if database.is_file():
        return
    source = used.absolute() if used else "no configuration file; mediagen.toml is looked for in the working directory"
    raise NoDatabase(
        f"there is no database at {database}\n"
        f"  configuration: {source}\n"
        "  Run this in the folder where the server runs, or name its data with --data-dir DIR or its configuration\n"
        "  with --config FILE. Before the first start of a server, --init makes a new database."
    )


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
