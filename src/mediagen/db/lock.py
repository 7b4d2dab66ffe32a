"""One process for one data directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from mediagen.db.errors import DataDirInUse

_NOTE_BYTES: Final = 200


class InstanceLock:
    """An exclusive ``flock`` on a file; the kernel gives it back when the process ends, however it ends.

    Blocking (for a moment): used on the writer's thread. ``note`` is what the last holder wrote when it gave the lock
    back; a process that died has written nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self.note = ""

    def acquire(self) -> None:
        """Take the lock. Raises DataDirInUse when another process has it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise DataDirInUse(
                f"another mediagen (process {holder}) uses {self._path.parent}; stop it or give another data_dir"
            ) from exc
        self.note = os.pread(fd, _NOTE_BYTES, 0).decode("ascii", "replace")
        self._write(fd, str(os.getpid()))
        self._fd = fd

    def release(self, note: str = "") -> None:
        """Give the lock back and leave ``note`` for the next holder; without having the lock, do nothing."""
        if self._fd is not None:
            if note:
                self._write(self._fd, note)
            os.close(self._fd)
            self._fd = None

    @staticmethod
    def _write(fd: int, text: str) -> None:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{text}\n".encode(), 0)
