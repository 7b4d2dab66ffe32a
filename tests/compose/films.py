"""Small films for the tests, made of flat images."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mediagen.compose.drawing import flat
from mediagen.compose.engine.orders import EngineFilm, EngineLayer, EngineScene
from mediagen.compose.request import Motion, TransitionType
from mediagen.compose.timeline import Timeline, Timing, place

WIDTH, HEIGHT, FPS = 320, 180, 10


def image(folder: Path, colour: str) -> str:
    path = folder / f"{colour.lstrip('#')}.png"
    flat(colour, 368, 208).write_to_file(str(path))
    return str(path)


def film(
    folder: Path,
    colours: Sequence[str],
    *,
    transition: TransitionType = TransitionType.CROSSFADE,
    seconds: float = 2.0,
    layers: Sequence[EngineLayer] = (),
) -> tuple[EngineFilm, Timeline]:
    timings = [Timing(seconds, transition=transition, overlap=0.5) for _ in colours]
    timeline, _ = place(timings, FPS)
    scenes = tuple(
        EngineScene(
            start=scene.start,
            end=scene.end,
            overlap=scene.overlap,
            transition=scene.transition,
            still=image(folder, colour),
            motion=Motion.ZOOM_IN,
        )
        for scene, colour in zip(timeline.scenes, colours, strict=True)
    )
    return EngineFilm(width=WIDTH, height=HEIGHT, fps=FPS, scenes=scenes, layers=tuple(layers)), timeline


def probed(path: Path) -> dict[str, Any]:
    """FFprobe's facts, with the packets counted."""
    words = ["ffprobe", "-v", "error", "-count_packets", "-show_streams", "-show_format", "-of", "json", str(path)]
    return dict(json.loads(subprocess.run(words, capture_output=True, check=True).stdout))


def pixels(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> list[tuple[int, int, int]]:
    """The colour in the middle of each frame, as red, green, blue."""
    words = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(words, capture_output=True, check=True).stdout
    width, height = size
    frame, middle = width * height * 3, (height // 2 * width + width // 2) * 3
    return [tuple(data[at + middle : at + middle + 3]) for at in range(0, len(data), frame)]  # type: ignore[misc]
