"""A film made: planned, drawn, spoken, mixed, joined, checked. The steps in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mediagen.compose.assembly import assemble, cards_in
from mediagen.compose.assets import Preparer
from mediagen.compose.cache import ContentCache
from mediagen.compose.captions import srt, webvtt
from mediagen.compose.check import check_film
from mediagen.compose.encoding import join_arguments, listing_of
from mediagen.compose.engine.orders import RATE, Bed, Mix, Voice
from mediagen.compose.plan import Plan, Planner
from mediagen.compose.render import WindowRenderer
from mediagen.compose.soundtrack import Loudness, encode, mix
from mediagen.media import ffmpeg
from mediagen.media.vips import VipsPool

_JOIN_SECONDS: Final = 600.0

Told = Callable[[str, float], None]
"""Takes the phase, and the share of the whole work that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Made:
    """A finished film in a work folder. ``srt``, ``webvtt``: None when no track was asked for, or nothing is said."""

    path: Path
    report: dict[str, Any]
    srt: str | None = field(repr=False)
    webvtt: str | None = field(repr=False)
    warnings: tuple[str, ...]


class FilmMaker:
    """Makes films of plans."""

    def __init__(self, planner: Planner, preparer: Preparer, cache: ContentCache, pool: VipsPool) -> None:
        self._planner = planner
        self._preparer = preparer
        self._cache = cache
        self._pool = pool
        self._renderer = WindowRenderer(cache)

    async def make(self, plan: Plan, folder: Path, told: Told, *, owner: str | None) -> Made:
        """The film, in ``folder``, where nothing else is.

        Raises:
            InvalidRequest: naming the field of a file that cannot be used.
            RenderFailed, MixFailed, FilmFaulty, EncodingFailed, FfmpegMissing, DeadlineExceeded.
        """
        told("preparing", 0.02)
        painter = await self._pool.run(self._planner.painter, plan)
        film = await assemble(plan, painter, self._preparer, self._cache, self._pool, owner=owner)
        told("rendering", 0.06)
        total = plan.timeline.frames
        rendered = await self._renderer.render(
            film, plan.timeline.windows(), plan.preset, lambda frames: told("rendering", 0.06 + 0.84 * frames / total)
        )
        told("mixing", 0.9)
        sound, loudness = await self._sound(plan, folder, owner)
        told("joining", 0.95)
        cards = cards_in(plan) if plan.request.subtitles.track else []
        track = webvtt(cards) if cards else None
        path = await self._join(plan, list(rendered.windows), sound, track, folder)
        told("checking", 0.98)
        report = await check_film(path, plan, rendered.dark, loudness)
        report |= {"windows": len(rendered.windows), "windows_reused": rendered.kept}
        await asyncio.to_thread(self._cache.sweep)
        return Made(path, report, srt(cards) if cards else None, track, plan.warnings)

    async def _sound(self, plan: Plan, folder: Path, owner: str | None) -> tuple[Path | None, Loudness | None]:
        voices = tuple(
            Voice(path=str(planned.narration.path), start=round(planned.narration.start * RATE))
            for planned in plan.scenes
            if planned.narration is not None
        )
        music = plan.request.music
        if not voices and music is None:
            return None, None
        bed = None
        if music is not None:
            path = await self._preparer.recording(music.file_id, owner=owner, field="music.file_id")
            bed = Bed(path=str(path), volume=music.volume, duck=music.duck)
        raw, sound = folder / "mix.pcm", folder / "sound.m4a"
        samples = round(plan.timeline.frames * RATE / plan.timeline.fps)
        await mix(Mix(samples=samples, voices=voices, music=bed, out=str(raw)), folder)
        loudness = await encode(raw, sound)
        await asyncio.to_thread(raw.unlink)
        return sound, loudness

    async def _join(self, plan: Plan, windows: list[Path], sound: Path | None, track: str | None, folder: Path) -> Path:
        listing, out, captions = folder / "windows.txt", folder / "film.mp4", None
        await asyncio.to_thread(listing.write_text, listing_of(windows), "utf-8")
        if track is not None:
            captions = folder / "captions.vtt"
            await asyncio.to_thread(captions.write_text, track, "utf-8")
        arguments = join_arguments(
            str(listing),
            None if sound is None else str(sound),
            None if captions is None else str(captions),
            str(out),
            language="und",
            title=plan.request.title or "",
        )
        await ffmpeg.run(arguments, limit_seconds=_JOIN_SECONDS, idle=True)
        return out
