"""The engine's process: ``python -m mediagen.compose.engine.worker FILM_JSON``.

It reads orders (``orders.Order``) from its input, a JSON line each, draws the frames of the window into their pipe,
and writes lines of ``orders.Drawn`` to its output. It ends with its input.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from typing import Final

import cv2

from mediagen.compose.engine.backgrounds import Background, Clip, Still
from mediagen.compose.engine.layers import Layer
from mediagen.compose.engine.orders import Drawn, EngineFilm, Order
from mediagen.compose.engine.planes import Frame, yuv_of
from mediagen.compose.engine.transitions import blend

_SAY_EVERY: Final = 10
"""Frames between two lines about how far the engine is."""
_KEPT: Final = 2
"""Scenes whose images stay in memory: a window shows two."""
_PIPE_BYTES: Final = 1 << 20
_DARK: Final = 24
"""Mean luma below which a frame counts as black (16 is black)."""


class Engine:
    """Draws windows of one film."""

    def __init__(self, film: EngineFilm) -> None:
        self._film = film
        self._stills: dict[int, Still] = {}
        self._layers: dict[int, Layer] = {}
        self._through = yuv_of(film.through)
        self._old = Frame.empty(film.width, film.height)
        self._new = Frame.empty(film.width, film.height)
        self._out = Frame.empty(film.width, film.height)

    def draw(self, order: Order) -> Drawn:
        """Write the window's frames, and say what was seen. Raises OSError, ValueError."""
        clips: dict[int, Clip] = {}
        try:
            with Path(order.out).open("wb", buffering=0) as pipe:
                with contextlib.suppress(OSError):
                    fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
                for index, (path, first) in order.clips.items():
                    clips[index] = Clip(Path(path), first, self._film.width, self._film.height)
                return self._write(order, clips, pipe.fileno())
        finally:
            for clip in clips.values():
                clip.close()

    def _write(self, order: Order, clips: dict[int, Clip], pipe: int) -> Drawn:
        dark = 0
        scene = self._film.scenes[order.index]
        for number in range(order.start, order.end):
            self._compose(scene.start, order.index, number, clips)
            for index, layer in enumerate(self._film.layers):
                if layer.start <= number < layer.end:
                    self._layer(index).draw(number, self._out)
            dark += bool(self._out.planes[0][::8, ::8].mean() < _DARK)
            view = self._out.view()
            while view:
                view = view[os.write(pipe, view) :]
            if number % _SAY_EVERY == 0:
                say(Drawn(index=order.index, frames=number + 1 - order.start))
        for index, layer in enumerate(self._film.layers):
            if layer.end <= order.end:
                self._layers.pop(index, None)
        return Drawn(index=order.index, frames=order.end - order.start, done=True, dark=dark)

    def _compose(self, start: int, index: int, number: int, clips: dict[int, Clip]) -> None:
        scene = self._film.scenes[index]
        within = number - start
        if within >= scene.overlap:
            self._background(index, clips).draw(within, self._out)
            return
        before = self._film.scenes[index - 1]
        self._background(index - 1, clips).draw(number - before.start, self._old)
        self._background(index, clips).draw(within, self._new)
        share = (within + 0.5) / scene.overlap
        blend(scene.transition, self._old, self._new, share, self._out, self._through)

    def _background(self, index: int, clips: dict[int, Clip]) -> Background:
        if index in clips:
            return clips[index]
        if index not in self._stills:
            scene = self._film.scenes[index]
            if scene.still is None:
                raise ValueError(f"scene {index} has neither an image nor frames")
            while len(self._stills) >= _KEPT:
                del self._stills[min(self._stills)]
            self._stills[index] = Still(Path(scene.still), scene.motion, scene.end - scene.start, self._film.fps)
        return self._stills[index]

    def _layer(self, index: int) -> Layer:
        if index not in self._layers:
            told = self._film.layers[index]
            self._layers[index] = Layer(
                Path(told.path),
                told.x,
                told.y,
                start=told.start,
                end=told.end,
                fade_in=told.fade_in,
                fade_out=told.fade_out,
            )
        return self._layers[index]


def say(drawn: Drawn) -> None:
    """Write a line to whom the engine works for."""
    sys.stdout.write(drawn.model_dump_json() + "\n")
    sys.stdout.flush()


def main(path: str) -> None:
    cv2.setNumThreads(1)
    engine = Engine(EngineFilm.model_validate_json(Path(path).read_bytes()))
    for line in sys.stdin:
        order = Order.model_validate_json(line)
        try:
            say(engine.draw(order))
        except (OSError, ValueError) as exc:
            say(Drawn(index=order.index, frames=0, error=str(exc)))


if __name__ == "__main__":
    main(sys.argv[1])
