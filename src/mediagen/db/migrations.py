"""Numbered SQL files, each applied once, in one transaction, with a copy of the database made before.

``PRAGMA user_version`` holds the number of the last one. A kill in the middle leaves the old schema or the new one.
"""

from __future__ import annotations

import os
import re
import sqlite3
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import structlog

from mediagen.db.errors import DatabaseDamaged, SchemaTooNew

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step; ``number`` counts from 1 without gaps."""

    number: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """All steps that this release knows, in order."""
    found: list[Migration] = []
    for entry in files("mediagen.db.schema").iterdir():
        match = re.fullmatch(r"(\d{4})_\w+\.sql", entry.name)
        if match is not None:
            found.append(Migration(int(match[1]), entry.name, entry.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    return found


def migrate(connection: sqlite3.Connection, path: Path, steps: list[Migration]) -> None:
    """Bring the database to the newest schema.

    ``path`` is its file; the copy made before the first step of an existing database lies beside it, named
    ``<file>.v<old number>.bak``, one for each old number.

    Raises:
        SchemaTooNew: a newer release has written it.
        DatabaseDamaged: it is a database, but not one of ours.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    newest = steps[-1].number
    if version > newest:
        raise SchemaTooNew(
            f"{path} has schema {version}, this release knows {newest}: install the release that wrote it, "
            f"or put its copy {path.name}.v{newest}.bak in its place"
        )
    pending = [step for step in steps if step.number > version]
    if not pending:
        return
    if version:
        _copy(connection, path.with_name(f"{path.name}.v{version}.bak"))
    elif connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise DatabaseDamaged(f"{path} is a database of another program; move it away or give another data_dir")
    for step in pending:
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{step.sql}\nPRAGMA user_version = {step.number};\nCOMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        log.info("schema_migrated", step=step.name)


def _copy(connection: sqlite3.Connection, path: Path) -> None:
    """A whole copy under ``path``, which never is a half one."""
    half = path.with_name(f"{path.name}.part")
    half.unlink(missing_ok=True)
    os.close(os.open(half, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    target = sqlite3.connect(half)
    try:
        connection.backup(target)
    finally:
        target.close()
    half.replace(path)
    log.info("database_copied", path=str(path))
