"""Base64 out of a JSON answer that lies in memory: ``python -m benchmarks.peers.base64_decoding --document FILE``.

Two contenders take turns: ``pybase64`` alone over the text, whole or in pieces of 256 KiB, whichever is faster; and our
decoding stage as an adapter of a vendor uses it, fed with pieces of 256 KiB: scanner, decoder, turns of the event loop.
Prints a line of JSON: seconds and processor seconds of each round, by contender.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pybase64

from mediagen.streams.json.media_fields import MediaFields

PIECE: Final = 256 * 1024
POINTER: Final = ("data", "*", "b64_json")


def whole(text: memoryview) -> int:
    """Bytes decoded in one call."""
    return len(pybase64.b64decode(text, validate=True))


def in_pieces(text: memoryview) -> int:
    """Bytes decoded piece by piece."""
    return sum(len(pybase64.b64decode(text[at : at + PIECE], validate=True)) for at in range(0, len(text), PIECE))


def ours(chunks: list[bytes]) -> int:
    """Bytes that the one field of the document gave."""

    async def pieces() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def decoded() -> int:
        fields = MediaFields(pieces(), [POINTER])
        found = 0
        async for field in fields.fields():
            async for chunk in field.chunks():
                found += len(chunk)
        return found

    return asyncio.run(decoded())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.base64_decoding")
    parser.add_argument("--document", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    args = parser.parse_args()
    document = args.document.read_bytes()
    first = document.index(b'"b64_json":"') + len(b'"b64_json":"')
    text = memoryview(document)[first : document.index(b'"', first)]
    chunks = [document[at : at + PIECE] for at in range(0, len(document), PIECE)]
    contenders: dict[str, Callable[[], int]] = {
        "pybase64, whole": lambda: whole(text),
        "pybase64, in pieces": lambda: in_pieces(text),
        "ours": lambda: ours(chunks),
    }
    told: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for turn in range(args.rounds + 1):
        for name, decode in contenders.items():
            began, cpu = time.perf_counter(), time.process_time()
            size = decode()
            took = time.perf_counter() - began, time.process_time() - cpu
            if size != len(text) // 4 * 3 - bytes(text[-2:]).count(b"="):
                raise SystemExit(f"{name} decoded {size} bytes of {len(text)} characters")
            if turn:
                told[name].append(took)
    print(json.dumps({"characters": len(text), "rounds": told}))


if __name__ == "__main__":
    main()
