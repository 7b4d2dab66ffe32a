"""One process for one data directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mediagen.db.faults import DataDirInUse


class InstanceLock:
    """An exclusive ``flock`` on a file; the kernel gives it back when the process ends, however it ends.

    Blocking (for a moment): used on the writer's thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

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
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Give the lock back; without having it, nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
