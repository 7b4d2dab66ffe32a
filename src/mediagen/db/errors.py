"""Failures of the database, told apart: those of the disk, those that stop the start, and those of a statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from mediagen.core.errors import MediagenError, Unavailable

FAULTS: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_BUSY: "another process holds it",
    sqlite3.SQLITE_LOCKED: "another connection holds it",
    sqlite3.SQLITE_FULL: "its disk is full",
    sqlite3.SQLITE_IOERR: "its disk reports an error",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_PERM: "its file may not be written",
    sqlite3.SQLITE_PROTOCOL: "its lock cannot be taken",
    sqlite3.SQLITE_CORRUPT: "its file is damaged",
    sqlite3.SQLITE_NOTADB: "its file is damaged",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_INTERRUPT: "the query took too long",
}
"""Primary result codes that are no fault of the caller (https://sqlite.org/rescode.html)."""


class DataDirInUse(Unavailable):
    """Another process works with the same data directory."""


class DatabaseDamaged(MediagenError):
    """The file is not a sound database of ours; the server does not start on it."""


class SchemaTooNew(MediagenError):
    """The database was written by a newer release."""


def code_of(exc: sqlite3.Error) -> int | None:
    """The primary result code, or None for an error of the module itself."""
    code = getattr(exc, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def unavailable(exc: sqlite3.Error) -> Unavailable | None:
    """What a fault of the disk or the file is to the caller; None when the statement itself is to blame."""
    code = code_of(exc)
    if code is None or code not in FAULTS:
        return None
    return Unavailable(f"the database cannot be used now: {FAULTS[code]}", sqlite=str(exc))
