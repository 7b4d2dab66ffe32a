"""How the operator's own commands reach the running server: by a file beside the database, which only he can read.

Whoever can read the data directory has everything anyway. The key in it is new at each start and is nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NAME: Final = "operator.json"
_MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Access:
    """Where the server that works with a data directory listens (with its base path), and a key that opens it."""

    url: str
    key: str


@asynccontextmanager
async def offered(data_dir: Path, access: Access) -> AsyncIterator[None]:
    """Inside, ``access`` can be read there. Raises OSError."""
    path = data_dir / _NAME
    await asyncio.to_thread(_write, path, access)
    try:
        yield
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)


def _write(path: Path, access: Access) -> None:
    half = path.with_name(f"{path.name}.part")
    half.unlink(missing_ok=True)
    handle = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump({"url": access.url, "key": access.key}, file)
    half.replace(path)


def found(data_dir: Path) -> Access | None:
    """What a server has left there; it may have died since. None: nothing, or nothing that can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError), (data_dir / _NAME).open() as file:
        saved = json.loads(file.read(_MAX_BYTES))
        return Access(str(saved["url"]), str(saved["key"]))
    return None
