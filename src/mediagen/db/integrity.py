"""Whether the file of the database is sound, and when that has to be found out.

Reading all of it takes seconds a gigabyte. After an orderly stop nothing but the disk itself can have changed the file;
one that was changed all the same (a copy put in its place, an edit) has another time or length than it was left with.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from pathlib import Path
from typing import Final

QUICK_BYTES: Final = 256 * 1024 * 1024
"""A file of at most this size is checked before the start; a larger one while the server runs."""
_STEPS: Final = 100_000
"""Instructions of SQLite between two looks at whether to stop."""
_LEFT: Final = re.compile(r"left (\d+) (\d+)")


def left_as(path: Path) -> str:
    """What tells later that nobody has touched the file since. Raises OSError."""
    found = path.stat()
    return f"left {found.st_size} {found.st_mtime_ns}"


def is_as_left(path: Path, note: str) -> bool:
    """Whether the file is the one that ``left_as`` saw."""
    match = _LEFT.fullmatch(note.strip())
    try:
        return match is not None and left_as(path) == match[0]
    except OSError:
        return False


def faults_of(connection: sqlite3.Connection, stop: threading.Event | None = None) -> list[str]:
    """What is wrong with the file, in SQLite's words, three faults at most; empty when it is sound or ``stop`` is set.

    Runs on the connection's thread, for seconds.
    """
    if stop is not None:
        connection.set_progress_handler(stop.is_set, _STEPS)
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    except sqlite3.OperationalError:
        if stop is not None and stop.is_set():
            return []
        raise
    finally:
        connection.set_progress_handler(None, 0)
    return [] if found == ["ok"] else found
