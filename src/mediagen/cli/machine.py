"""What the doctor looks at without a store: disk, SQLite, limits of the system, programs."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from mediagen.cli.check import nearest_existing
from mediagen.core.clock import Clock
from mediagen.db.clock_record import known_time
from mediagen.streams.base import GIB, MIB
from mediagen.web.http.connection_limits import most_connections
from mediagen.web.ops.health import describe_doubt

LITTLE_SPACE: Final = GIB
NO_SPACE: Final = 64 * MIB
FEW_FILES: Final = 4096
TOO_FEW_FILES: Final = 256
WAL_RESET_FIXED: Final = (3, 51, 3)
"""Before this release two connections that write and checkpoint at the same moment can damage a database."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``advice``: what to do; empty when there is nothing to do."""

    name: str
    status: Literal["ok", "warn", "fail"]
    says: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def data_directory(path: Path) -> Iterator[Finding]:
    """Whether it (or the nearest folder above, when the first start will make it) takes a file; its free space."""
    nearest = nearest_existing(path)
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"mediagen")
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        advice = "let the user that runs mediagen write there, or set another data_dir"
        yield Finding("data directory", "fail", f"{nearest}: {exc.strerror}", advice)
        return
    later = "" if nearest == path.absolute() else " (will be made by the first start)"
    yield Finding("data directory", "ok", f"{path.absolute()} can be written{later}")
    yield free_space(nearest, shutil.disk_usage(nearest).free)


def free_space(path: Path, free: int) -> Finding:
    """A verdict on ``free`` bytes."""
    said = f"{free / GIB:.1f} GiB at {path}"
    if free < NO_SPACE:
        return Finding("free space", "fail", said, "free some, or set data_dir to a larger disk")
    if free < LITTLE_SPACE:
        return Finding("free space", "warn", said, "the database needs room for its log; free some soon")
    return Finding("free space", "ok", said)


def recorded_time(database: Path) -> Iterator[Finding]:
    """How far the clock is from the time that the server recorded last, when that puts it in doubt."""
    if not database.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            known = known_time(connection)
    except sqlite3.Error:
        return  # of an older release, or damaged, which the start says
    clock = Clock(known=known)
    if (doubt := clock.doubt()) is not None:
        advice = "set the clock (NTP), or say that it is right: mediagen clock confirm"
        yield Finding("recorded time", "warn", describe_doubt(doubt, clock.believed_in()), advice)


def sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Finding:
    """The version, and whether it has the WAL-reset fault."""
    said = ".".join(map(str, version))
    if version >= WAL_RESET_FIXED:
        return Finding("sqlite", "ok", said)
    # one connection of ours writes and checkpoints; only somebody else's second one could do harm
    return Finding(
        "sqlite",
        "ok",
        f"{said}, before {'.'.join(map(str, WAL_RESET_FIXED))}: has the WAL-reset fault, which mediagen's one writer "
        "cannot meet; let no other program write to its database",
    )


def open_files(limit: int | None = None) -> Finding:
    """How many files and sockets the server may open: it raises the soft limit to the hard one by itself."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if limit is None else limit
    if hard == resource.RLIM_INFINITY:
        return Finding("open files", "ok", "no limit")
    advice = "raise the hard limit: LimitNOFILE of systemd, --ulimit nofile of a container, ulimit -Hn"
    status: Literal["ok", "warn", "fail"] = "fail" if hard < TOO_FEW_FILES else "warn" if hard < FEW_FILES else "ok"
    says = f"at most {hard}, enough for {most_connections(hard)} connections"
    return Finding("open files", status, says, "" if status == "ok" else advice)


def programs() -> Iterator[Finding]:
    """FFmpeg: films of the built-in provider need it, nothing else does."""
    for name in ("ffmpeg", "ffprobe"):
        found = shutil.which(name)
        advice = "" if found else "install it for films: apt-get install ffmpeg"
        yield Finding(name, "ok" if found else "warn", found or "not installed: no films", advice)
