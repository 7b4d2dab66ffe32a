"""Compositions as tasks: a request becomes a film, its subtitles and a report, in the store."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Final

from mediagen.compose.film import FilmMaker, Made
from mediagen.compose.plan import Plan, Planner
from mediagen.compose.request import Composition
from mediagen.core.errors import StorageFull
from mediagen.core.files import File, FileKind
from mediagen.core.progress import Progress
from mediagen.pipelines.base import Outcome, Run
from mediagen.pipelines.saving.result_run import ResultRun
from mediagen.pipelines.saving.saver import SaveOptions, Saver
from mediagen.streams.base import MIB
from mediagen.streams.sources import ChunkSource

_SAVING_PERCENT: Final = 95
_ETA_FROM: Final = 0.1
"""Share of the work from which its pace says more than the estimate of the plan."""
_SPARE: Final = 256 * MIB
_BYTES_A_SECOND: Final = 2 * MIB
"""Room in the work folder for each second of film of 1280x720: windows, the mix, the film."""
_CHUNK: Final = 1 << 18


class CompositionPipeline:
    """Fits ``pipelines.base.Pipeline``. Works in ``folder``, which it empties at the start."""

    kind = "composition"
    lane = "compose"
    spec = Composition

    def __init__(self, planner: Planner, maker: FilmMaker, saver: Saver, folder: Path) -> None:
        self._planner = planner
        self._maker = maker
        self._saver = saver
        self._folder = folder

    async def plan(self, request: Composition, *, owner: str | None) -> Plan:
        """The plan alone; nothing is rendered. Raises as ``Planner.plan``."""
        return await self._planner.plan(request, owner=owner)

    async def check(self, request: Composition, *, owner: str | None) -> None:
        """Refuse what is wrong before a task is made. Raises as ``Planner.check``."""
        await self._planner.check(request, owner=owner)

    async def run(self, spec: Composition, run: Run, /) -> Outcome:
        run.report(Progress("planning", 1))
        await self._saver.remove(run.resume)
        plan = await self._planner.plan(spec, owner=run.owner)
        saved: dict[str, Any] = {}
        outcomes: list[Outcome] = []
        try:
            async with self._work_folder(plan) as folder:
                made = await self._maker.make(plan, folder, _Reporter(run, plan), owner=run.owner)
                for source, options, declared in await asyncio.to_thread(_results, spec, made):
                    result_run = ResultRun(run, saved, from_percent=_SAVING_PERCENT)
                    outcomes.append(await self._saver.save_source(source, options, result_run, declared=declared))
                    saved["kept"] = [*saved.get("kept", ()), saved.pop("transfer")]
                    await run.checkpoint(dict(saved))
        except BaseException:
            for outcome in outcomes:
                outcome.release()
            raise
        return _outcome(outcomes, made)

    async def abandon(self, checkpoint: Mapping[str, Any], /) -> None:
        await self._saver.remove(checkpoint)

    async def discard(self, outcome: Outcome, /) -> None:
        await self._saver.discard(outcome)

    @asynccontextmanager
    async def _work_folder(self, plan: Plan) -> AsyncIterator[Path]:
        """A folder for one film, removed with what is in it. Raises StorageFull when the disk has too little room."""
        pixels = plan.width * plan.height / (1280 * 720)
        needed = _SPARE + round(_BYTES_A_SECOND * plan.timeline.seconds * max(1.0, pixels))

        def make() -> Path:
            self._folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._folder).free
            if free < needed:
                raise StorageFull(
                    f"the film needs about {needed // MIB} MiB of disk to be rendered; {free // MIB} MiB are free"
                )
            return Path(tempfile.mkdtemp(prefix="film-", dir=self._folder))

        folder = await asyncio.to_thread(make)
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


class _Reporter:
    """Tells how far a film is. Percentages never go back; the time left comes from the pace once there is one."""

    def __init__(self, run: Run, plan: Plan) -> None:
        self._run = run
        self._estimated = plan.estimated_seconds
        self._began = monotonic()
        self._first: tuple[float, float] | None = None

    def __call__(self, phase: str, share: float) -> None:
        now = monotonic()
        if phase == "rendering" and self._first is None:
            self._first = (now, share)
        remaining = max(0.0, self._estimated - (now - self._began))
        if self._first is not None and share - self._first[1] > _ETA_FROM:
            pace = (share - self._first[1]) / (now - self._first[0])
            remaining = (1 - share) / pace
        percent = max(1, min(_SAVING_PERCENT, round(_SAVING_PERCENT * share)))
        self._run.report(Progress(phase, percent, remaining_seconds=round(remaining, 1)))


def _results(spec: Composition, made: Made) -> list[tuple[ChunkSource, SaveOptions, str]]:
    """The files of a film, the film first: bytes, how they are kept, and their media type. Blocks."""
    name = spec.title or "film"
    size = made.path.stat().st_size
    results = [
        (ChunkSource(_chunks(made.path), size=size), SaveOptions(FileKind.VIDEO, f"{name}.mp4"), "video/mp4"),
    ]
    for text, suffix, media_type in ((made.srt, "srt", "application/x-subrip"), (made.webvtt, "vtt", "text/vtt")):
        if text is not None:
            data = text.encode()
            source = ChunkSource(_once(data), size=len(data))
            results.append((source, SaveOptions(FileKind.SUBTITLE, f"{name}.{suffix}"), media_type))
    return results


def _outcome(outcomes: list[Outcome], made: Made) -> Outcome:
    files: tuple[File, ...] = tuple(file for outcome in outcomes for file in outcome.files)

    def release() -> None:
        for outcome in outcomes:
            outcome.release()

    result = {
        "file": files[0].id,
        "subtitles": [file.id for file in files[1:]],
        "report": made.report,
        "warnings": list(made.warnings),
    }
    return Outcome(result, files, release)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(os.read, file.fileno(), _CHUNK):
            yield chunk
    finally:
        await asyncio.to_thread(file.close)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
