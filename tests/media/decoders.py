"""The processes that decode pictures, as /proc shows them."""

from __future__ import annotations

import os
from pathlib import Path

from mediagen.media import forks
from tests.infra.process import descendants


def decoders(parent: int | None = None) -> list[int]:
    """Processes that decode, wait to, or fork those that do; of ``parent``, or of ours."""
    return [pid for pid in descendants(parent or os.getpid()) if forks.__file__ in said_by(pid, "cmdline")]


def decoding(parent: int | None = None) -> list[int]:
    """Those of them that have been given a picture."""
    return [pid for pid in decoders(parent) if said_by(pid, "comm") == "decoding\n"]


def said_by(pid: int, name: str) -> str:
    """A file of the process in /proc; nothing once it has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""
