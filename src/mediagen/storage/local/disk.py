"""What a local store does to the disk: blocking calls for threads, their errors in our words."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mediagen.core.errors import NotFound, StorageFull, StorageRefused, StorageUnavailable
from mediagen.storage.object_keys import is_token
from mediagen.streams.base import MIB, View
from mediagen.streams.digest import crc32

CHUNK: Final = MIB
"""A write costs a thread hop of some 60 microseconds: below 1 MiB that shows."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def translate_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as exc:
        raise NotFound("no such object") from exc
    except FileExistsError as exc:
        raise StorageRefused("there is something else under this name already") from exc
    except OSError as exc:
        if exc.errno in _FULL:
            raise StorageFull("no space left for media") from exc
        raise StorageUnavailable(f"the disk reports an error: {os.strerror(exc.errno or 0)}", errno=exc.errno) from exc


def open_for_write(path: str, flags: int) -> int:
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)


def open_existing(path: str) -> tuple[int, int]:
    """Descriptor and length of an object. What is no regular file is not ours."""
    try:
        # without waiting, should somebody have put a pipe there
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):
            raise FileNotFoundError(errno.ENOENT, "no regular file", path) from exc
        raise
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "no regular file", path)
    return fd, found.st_size


def write_all(fd: int, chunk: View, offset: int) -> None:
    view = memoryview(chunk)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def crc32_of(fd: int, offset: int, size: int) -> int | None:
    """CRC-32 of a stretch of a file; None when the file is shorter."""
    value, buffer = 0, memoryview(bytearray(min(size, CHUNK)))
    while size:
        count = os.preadv(fd, [buffer[:size]], offset)
        if count == 0:
            return None
        value = crc32(buffer[:count], value)
        offset, size = offset + count, size - count
    return value


def publish(fd: int, part_path: str, path: str) -> None:
    """Durable first, then visible, then durable again: file, link, folder. A link never replaces what is there."""
    os.fsync(fd)
    folder = Path(path).parent
    make_folder(folder)
    try:
        os.link(part_path, path)
    except FileExistsError:
        # a crash between the link and the unlink leaves both names
        if not os.path.samestat(Path(path).lstat(), os.fstat(fd)):
            raise
    try:
        sync_folder(folder)
        Path(part_path).unlink()
    except BaseException:
        unlink(path)  # not durable, so not committed, so not to be seen
        raise


def make_folder(path: Path) -> None:
    """Make a folder and its parents durable, for us alone (``Path.mkdir`` gives parents the mode of everybody)."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_folder(path.parent)
        make_folder(path)
        return
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unlink(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def sweep(folder: Path, kept: set[str]) -> int:
    """Remove unfinished files but those ``kept``; what else somebody put there is not ours."""
    dead = [
        path
        for path in folder.iterdir()
        if path.suffix == ".part" and is_token(path.stem) and path.name not in kept and not path.is_dir()
    ]
    for path in dead:
        path.unlink(missing_ok=True)
    return len(dead)
