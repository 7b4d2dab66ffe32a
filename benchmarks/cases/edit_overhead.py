"""What a picture that goes with an edit costs more by being decoded in a confined child."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp

from benchmarks.bench import Bench
from benchmarks.peers.contenders import clean_environment
from benchmarks.peers.image_decoding import PICTURES
from benchmarks.process import BenchmarkFailure
from benchmarks.process import run as command
from benchmarks.readings import Reading, interleave, median
from benchmarks.report import Report, grid
from benchmarks.servers.mediagen import Server

ROUNDS: Final = 40
EDITS: Final = 12
ADDED_MS: Final = 20.0
PATH: Final = "/v1/images/edits"


async def run(bench: Bench) -> Report:
    """Honest pictures, made to 1024x1024: by the server's decoder, and by the same decoding in a warm process."""
    report = Report("edit-overhead", "the picture of an edit, decoded in a confined child and in a warm process")
    folder = bench.work / "pictures"
    folder.mkdir()
    rounds = bench.given_rounds or (ROUNDS // 4 if bench.quick else ROUNDS)
    argv = [sys.executable, "-m", "benchmarks.peers.image_decoding", "--folder", str(folder), "--rounds", str(rounds)]
    told = json.loads((await command(argv, env=clean_environment(), timeout=600)).stdout)
    lines = []
    for name, turns in told["rounds"].items():
        confined, direct = ([seconds * 1000 for seconds in side] for side in zip(*turns, strict=True))
        size = f"{told['sizes'][name] / 1e6:.1f} MB"
        lines.append((f"{name}, {size}", *(f"{median(side):.1f} / {min(side):.1f}" for side in (confined, direct))))
        added = median([one - other for one, other in zip(confined, direct, strict=True)])
        report.add(f"added, median of turns, {name}", added, "ms", limit=ADDED_MS)
        report.add(f"added to the quickest, {name}", min(confined) - min(direct), "ms", limit=ADDED_MS)
    report.tables.append("p50 / quickest, ms:\n\n" + grid(("", "confined child", "warm process"), lines))
    report.add("first picture of a server, unannounced", median(told["firsts"]) * 1000, "ms")
    async with bench.server() as server:
        contenders = {name: _edits(server, folder / name) for name in PICTURES}
        _, taken = await interleave(contenders, EDITS // 4 if bench.quick else EDITS)
    for name, readings in taken.items():
        report.add(f"whole call, p50, {name}", median([one.seconds for one in readings]) * 1000, "ms")
    return report


def _edits(server: Server, picture: Path) -> Callable[[], Awaitable[Reading]]:
    """A whole call, from the request to the answer with the URL of what was made."""

    async def go() -> Reading:
        form = aiohttp.FormData({"model": "builtin-poster", "prompt": "a fox", "response_format": "url"})
        form.add_field("image", await asyncio.to_thread(picture.read_bytes), filename="picture")
        began = time.perf_counter()
        async with server.api.session.post(f"{server.base}{PATH}", data=form) as answer:
            text = await answer.text()
        if answer.status != 200:
            raise BenchmarkFailure(f"POST {PATH}: {answer.status} {text[:300]}")
        return Reading(time.perf_counter() - began)

    return go
