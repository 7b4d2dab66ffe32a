"""Renders the windows of a film: the engine draws frames into a pipe, FFmpeg encodes them, whole windows are kept.

Windows that are kept from an earlier render of the same content are not rendered again, so a small edit costs two
windows, and a killed server goes on where it was. The engine and FFmpeg run only when nothing else wants the processor.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mediagen.compose.cache import ContentCache, key_of
from mediagen.compose.encoding import VERSION, Preset, clip_arguments, window_arguments
from mediagen.compose.engine.orders import Drawn, EngineFilm, EngineScene, Order
from mediagen.compose.engine_process import start_module
from mediagen.compose.timeline import Window
from mediagen.core.errors import MediagenError, first_cause
from mediagen.media import ffmpeg

_AT_ONCE: Final = 2
"""Windows under way: while FFmpeg ends one, the engine draws the next."""
_SECONDS_A_FRAME: Final = 4.0
"""A render that takes longer for each frame is stuck, whatever the machine."""


class RenderFailed(MediagenError):
    """The engine or FFmpeg could not render a window; the task's log has the reason."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The windows in their order, how many of them were kept from before, and frames that are all but black."""

    windows: tuple[Path, ...]
    kept: int
    dark: dict[int, int]


def window_key(film: EngineFilm, window: Window, preset: Preset) -> str:
    """The name of a window's file: a hash of all that its frames depend on, counted from its first frame."""
    scene = film.scenes[window.index]
    scenes = [_shown(scene, window.start)]
    if scene.overlap:
        scenes.append(_shown(film.scenes[window.index - 1], window.start))
    layers = [
        [
            *(Path(layer.path).name, layer.x, layer.y),
            *(layer.start - window.start, layer.end - window.start, layer.fade_in, layer.fade_out),
        ]
        for layer in film.layers
        if layer.start < window.end and layer.end > window.start
    ]
    name = key_of(
        "window",
        version=VERSION,
        size=[film.width, film.height, film.fps, window.frames],
        preset=[preset.name, json.dumps(dict(preset.options), sort_keys=True)],
        transition=[scene.transition.value, scene.overlap, film.through],
        scenes=scenes,
        layers=layers,
    )
    return f"{name}.mp4"


def _shown(scene: EngineScene, start: int) -> list[Any]:
    source = scene.still or scene.clip or ""
    return [Path(source).name, scene.motion.value, scene.start - start, scene.end - start]


class WindowRenderer:
    """Renders windows into ``cache``, at most ``_AT_ONCE`` at a time."""

    def __init__(self, cache: ContentCache, *, threads: int | None = None) -> None:
        self._cache = cache
        self._threads = threads or os.cpu_count() or 1

    async def render(
        self, film: EngineFilm, windows: Sequence[Window], preset: Preset, told: Callable[[int], None]
    ) -> Rendered:
        """All windows. ``told`` gets the frames that are done, those that were kept included.

        Raises:
            RenderFailed, EncodingFailed, FfmpegMissing, DeadlineExceeded.
        """
        names = [window_key(film, window, preset) for window in windows]
        found = await asyncio.to_thread(lambda: [self._cache.find(name) for name in names])
        missing = [index for index, path in enumerate(found) if path is None]
        progress = _Progress(told, sum(windows[i].frames for i, path in enumerate(found) if path is not None))
        progress.say()
        dark: dict[int, int] = {}
        if missing:
            try:
                async with _folder(self._cache.folder) as folder, self._engine(film, folder, progress) as engine:
                    await self._render_missing(engine, film, windows, names, missing, preset, folder, progress, dark)
            except BaseExceptionGroup as failed:
                raise first_cause(failed) from failed
        paths = await asyncio.to_thread(lambda: [self._cache.find(name) for name in names])
        whole = tuple(path for path in paths if path is not None)
        if len(whole) < len(names):
            raise RenderFailed("rendered windows were removed from the cache before the film was joined")
        return Rendered(whole, len(names) - len(missing), dark)

    async def _render_missing(
        self,
        engine: _Engine,
        film: EngineFilm,
        windows: Sequence[Window],
        names: list[str],
        missing: list[int],
        preset: Preset,
        folder: Path,
        progress: _Progress,
        dark: dict[int, int],
    ) -> None:
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(index: int) -> None:
            try:
                async with self._cache.partial(names[index]) as part:
                    dark[index] = await self._window(engine, film, windows[index], preset, folder, part)
                    await asyncio.to_thread(self._cache.publish, part, names[index])
                progress.finish(index, windows[index].frames)
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            for index in missing:
                await places.acquire()
                group.create_task(one(index))

    async def _window(
        self, engine: _Engine, film: EngineFilm, window: Window, preset: Preset, folder: Path, part: Path
    ) -> int:
        """Render one window into ``part``; gives the number of its dark frames."""
        pipe = folder / f"frames-{window.index}"
        await asyncio.to_thread(os.mkfifo, pipe, 0o600)
        arguments = window_arguments(
            str(pipe),
            str(part),
            preset=preset,
            width=film.width,
            height=film.height,
            fps=film.fps,
            frames=window.frames,
            threads=self._threads,
        )
        limit = 60 + _SECONDS_A_FRAME * window.frames
        encoded = [0]

        def count(block: Any) -> None:
            encoded[0] = int(block.get("frame", "0") or 0)

        async with asyncio.TaskGroup() as group:
            clips = await self._clips(group, film, window, folder)
            order = Order(index=window.index, start=window.start, end=window.end, out=str(pipe), clips=clips)
            group.create_task(ffmpeg.run(arguments, limit_seconds=limit, told=count, idle=True))
            drawn = await engine.draw(order)
        if drawn.error is not None:
            raise RenderFailed(f"scene {window.index} could not be drawn", said=drawn.error)
        if encoded[0] != window.frames:
            raise RenderFailed(f"{encoded[0]} frames of {window.frames} were encoded", window=window.index)
        return drawn.dark

    async def _clips(
        self, group: asyncio.TaskGroup, film: EngineFilm, window: Window, folder: Path
    ) -> dict[int, tuple[str, int]]:
        """Start a decoder for each video in the window; the pipes of its frames and their first numbers."""
        clips: dict[int, tuple[str, int]] = {}
        shown = [window.index] + ([window.index - 1] if film.scenes[window.index].overlap else [])
        for index in shown:
            scene = film.scenes[index]
            if scene.clip is None:
                continue
            pipe = folder / f"clip-{window.index}-{index}"
            await asyncio.to_thread(os.mkfifo, pipe, 0o600)
            first = window.start - scene.start
            last = min(window.end, scene.end) - scene.start
            if index != window.index:
                last = first + film.scenes[window.index].overlap
            arguments = clip_arguments(scene.clip, str(pipe), first=first, last=last)
            group.create_task(ffmpeg.run(arguments, limit_seconds=60 + _SECONDS_A_FRAME * last, idle=True))
            clips[index] = (str(pipe), first)
        return clips

    @asynccontextmanager
    async def _engine(self, film: EngineFilm, folder: Path, progress: _Progress) -> AsyncIterator[_Engine]:
        told = folder / "film.json"
        await asyncio.to_thread(told.write_text, film.model_dump_json(), "utf-8")
        async with start_module("worker", str(told), stdin=asyncio.subprocess.PIPE) as child:
            engine = _Engine(child, progress)
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(engine.listen())
                complaints = group.create_task(engine.complaints())
                try:
                    yield engine
                finally:
                    listening.cancel()
                    complaints.cancel()


@asynccontextmanager
async def _folder(parent: Path) -> AsyncIterator[Path]:
    """A folder for pipes, removed with what is in it."""

    def make() -> Path:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="render-", dir=parent))

    folder = await asyncio.to_thread(make)
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


class _Engine:
    """The engine's process, and the windows that it has been asked for."""

    def __init__(self, child: asyncio.subprocess.Process, progress: _Progress) -> None:
        self._child = child
        self._progress = progress
        self._asked: dict[int, asyncio.Future[Drawn]] = {}
        self._said = b""
        self._over = False

    async def draw(self, order: Order) -> Drawn:
        """Draw a window; returns when its frames are in the pipe. Raises RenderFailed."""
        if self._over or self._child.stdin is None:
            raise self._ended()
        answer: asyncio.Future[Drawn] = asyncio.get_running_loop().create_future()
        self._asked[order.index] = answer
        self._child.stdin.write(order.model_dump_json().encode() + b"\n")
        try:
            return await answer
        finally:
            del self._asked[order.index]

    async def listen(self) -> None:
        """Take the engine's lines until it ends."""
        if self._child.stdout is None:
            raise RuntimeError("the engine's output is not a pipe")
        async for line in self._child.stdout:
            drawn = Drawn.model_validate_json(line)
            if drawn.done or drawn.error is not None:
                if (answer := self._asked.get(drawn.index)) is not None and not answer.done():
                    answer.set_result(drawn)
            else:
                self._progress.reach(drawn.index, drawn.frames)
        self._over = True
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(self._ended())

    async def complaints(self) -> None:
        """Keep the last of what the engine writes to its error output."""
        if self._child.stderr is None:
            raise RuntimeError("the engine's error output is not a pipe")
        while piece := await self._child.stderr.read(4096):
            self._said = (self._said + piece)[-4096:]

    def _ended(self) -> RenderFailed:
        return RenderFailed("the frame engine ended early", said=self._said.decode("utf-8", "replace"))


class _Progress:
    """Frames done over all windows; never goes back."""

    def __init__(self, told: Callable[[int], None], kept: int) -> None:
        self._told = told
        self._done = kept
        self._reached: dict[int, int] = {}
        self._most = 0

    def reach(self, index: int, frames: int) -> None:
        self._reached[index] = frames
        self.say()

    def finish(self, index: int, frames: int) -> None:
        self._reached.pop(index, None)
        self._done += frames
        self.say()

    def say(self) -> None:
        self._most = max(self._most, self._done + sum(self._reached.values()))
        self._told(self._most)
