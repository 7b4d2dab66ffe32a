"""A process that stores an object of four parts on local disk, for a tracer to kill or to hinder.

Its argument is the folder. What was stored is printed after each part, as a journal would keep it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from mediagen.core.errors import MediagenError
from mediagen.storage.local import storage as local
from mediagen.storage.local.storage import LocalStorage
from mediagen.streams.base import MIB
from tests.contracts.uploads import ABOUT, KEY, commit, put_parts, the_bytes

SIZE = 24 * MIB + 1


async def main(root: Path) -> None:
    data = the_bytes(SIZE)
    async with LocalStorage(root) as storage:
        print(json.dumps("open"), flush=True)
        try:
            async with storage.open_sink(KEY, **ABOUT, size=SIZE, parallel=True) as sink:
                await sink.begin()
                print(json.dumps(dict(sink.state)), flush=True)
                parts = []
                for number in (1, 2, 3, 4):
                    parts += await put_parts(sink, data, [number])
                    print(json.dumps(asdict(parts[-1])), flush=True)
                await commit(sink, parts)
        except MediagenError as exc:
            print(json.dumps(type(exc).__name__), flush=True)


if __name__ == "__main__":
    local._THREADS = 1  # type: ignore[misc]  # tracers count the calls of each thread by itself
    asyncio.run(main(Path(sys.argv[1])))
