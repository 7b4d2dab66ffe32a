"""The vendor as a running process, what it is given to answer with, and the settings of a server that asks it."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.process import Child
from benchmarks.readings import MIB
from benchmarks.servers.source import free_port, until_open

FILM_HEAD: Final = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41"
PICTURE_HEAD: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x04\x00\x00\x00\x04\x00\x08\x02\x00\x00\x00"
_BLOCK: Final = 3 * MIB
"""A multiple of 3, so that base64 of the blocks is that of the whole."""


class Vendor:
    """``benchmarks.servers.vendor_http`` on a free port; ``files``: its options, ``film=path``, ``film_url=url``, …"""

    def __init__(self, root: Path, **files: Path | str) -> None:
        self._port = free_port()
        argv = [sys.executable, "-m", "benchmarks.servers.vendor_http", "--port", str(self._port)]
        for name, value in files.items():
            argv += [f"--{name.replace('_', '-')}", str(value)]
        self._child = Child(argv, log=root / f"vendor-{self._port}.log")

    async def __aenter__(self) -> Self:
        await self._child.__aenter__()
        await until_open(self._port, self._child, "the vendor")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._child.__aexit__(*exc)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def settings(self) -> dict[str, Any]:
        """Providers with models ``url``, ``text`` (pictures), ``openai``, ``endless``, ``minimax`` and ``google``."""
        key = {"api_key": "sk-bench"}
        names = {
            "pictures": {"type": "openai", "engine": "generic", "models": ["url", "text"]},
            "films": {"type": "openai", "models": ["openai=sora-2", "endless=sora-endless"]},
        }
        return {
            "providers": {
                **{name: {**each, **key, "base_url": f"{self.url}/v1"} for name, each in names.items()},
                "minimax": {
                    "type": "minimax",
                    "models": ["minimax=MiniMax-Hailuo-2.3"],
                    **key,
                    "base_url": self.url,
                },
                "google": {
                    "type": "google",
                    "models": ["google=veo-3.1-generate-preview"],
                    **key,
                    "base_url": f"{self.url}/v1beta",
                },
            }
        }


async def write(path: Path, head: bytes, size: int) -> Path:
    """A file of ``size`` bytes that begins with ``head``; the rest is random, no two blocks alike."""
    return await asyncio.to_thread(_written, path, _blocks(head, size))


async def write_text(path: Path, head: bytes, size: int, before: bytes, after: bytes) -> Path:
    """The same in base64, between ``before`` and ``after``: an answer in JSON."""

    def pieces() -> Iterator[bytes]:
        yield before
        yield from map(base64.b64encode, _blocks(head, size))
        yield after

    return await asyncio.to_thread(_written, path, pieces())


def _blocks(head: bytes, size: int) -> Iterator[bytes]:
    block = os.urandom(min(_BLOCK, size))
    yield (head + block[len(head) :])[:size]
    for start in range(_BLOCK, size, _BLOCK):
        yield (start.to_bytes(8, "big") + block[8:])[: size - start]


def _written(path: Path, pieces: Iterator[bytes]) -> Path:
    with path.open("wb") as file:
        file.writelines(pieces)
    return path
