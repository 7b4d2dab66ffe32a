"""``mediagen webhooks``: through the server that runs on this data directory, or else in its database."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from mediagen import log
from mediagen.app import DATABASE_FILE, signing_secrets
from mediagen.cli.client import CannotReach, Client, Refused
from mediagen.core.errors import MediagenError
from mediagen.db.connection import Database
from mediagen.settings import ConfigurationError, Settings, load
from mediagen.web import webhooks as verbs
from mediagen.web.operator import found
from mediagen.web.problems import status_of
from mediagen.web.routing import validate

OK: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 2


def rotate(config: Path | None, *, overlap_hours: float, as_json: bool) -> int:
    """Make a new signing secret and print it, this once; the exit status."""
    asked = {"overlap_seconds": round(overlap_hours * 3600)}
    try:
        settings, _ = load(config, os.environ)
        log.configure("error", settings.log.format)
        answer = _ask_server(settings, asked)
        if answer is None:
            answer = asyncio.run(_in_database(settings, asked))
    except ConfigurationError as exc:
        for problem in exc.problems:
            print(f"mediagen: {problem}", file=sys.stderr)
        return UNUSABLE
    except Refused as exc:
        print(f"mediagen: {exc.code}: {exc}", file=sys.stderr)
        return FAILED if exc.status == HTTPStatus.CONFLICT else UNUSABLE
    except (CannotReach, OSError) as exc:
        print(f"mediagen: {exc}", file=sys.stderr)
        return UNUSABLE
    print(json.dumps(answer) if as_json else answer["secret"])
    if not as_json:
        print("Give the secret to your receivers now: it cannot be shown again.", file=sys.stderr)
    return OK


def _ask_server(settings: Settings, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The answer of the server that runs; None: none runs."""
    access = found(settings.data_dir)
    if access is None:
        return None
    try:
        return Client(access.url, key=access.key).call("POST", "/v1/webhooks/secret/rotate", asked)
    except CannotReach:
        return None  # it died and left the file; if it lives all the same, its lock on the database says so


async def _in_database(settings: Settings, asked: dict[str, Any]) -> dict[str, Any]:
    """The same, as the server would do it. Raises Refused as that would answer."""
    try:
        async with Database(settings.data_dir / DATABASE_FILE) as database:
            secrets = await signing_secrets(database, settings)
            answer = await verbs.rotate(secrets, validate(verbs.SecretRotation, asked))
    except MediagenError as exc:
        raise Refused(status_of(type(exc)), exc.code, exc.detail) from None
    return answer.model_dump(mode="json")
