"""What the engine's processes are told, and what they answer: JSON, a document or a line each."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

from mediagen.compose.request import Motion, TransitionType

RATE: Final = 48_000
"""Samples a second of everything that is mixed: signed 16 bit, little-endian."""
CHANNELS: Final = 2


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineScene(_Model):
    """A scene on the timeline. ``still``: path of its image; ``clip``: path of its video, as long as the scene."""

    start: int
    end: int
    overlap: int
    transition: TransitionType
    still: str | None = None
    clip: str | None = None
    motion: Motion = Motion.NONE


class EngineLayer(_Model):
    """An image with alpha, at pixel ``x``, ``y``, in frames ``start`` to ``end`` of the film."""

    path: str
    x: int
    y: int
    start: int
    end: int
    fade_in: int = 0
    fade_out: int = 0


class EngineFilm(_Model):
    """Everything that is drawn."""

    width: int
    height: int
    fps: int
    through: str = "#000000"
    """The colour that a fade passes through."""
    scenes: tuple[EngineScene, ...]
    layers: tuple[EngineLayer, ...] = ()


class Order(_Model):
    """One window to draw: frames ``start`` to ``end`` into the pipe ``out``.

    ``clips``: for scenes without a still, the pipe of their raw frames and the number of the first frame in it.
    """

    index: int
    start: int
    end: int
    out: str
    clips: dict[int, tuple[str, int]] = {}


class Drawn(_Model):
    """What the engine answers on its output, a line each: how far it is, and at the end of a window what it saw."""

    index: int
    frames: int
    done: bool = False
    dark: int = 0
    """Frames that are all but black."""
    error: str | None = None


class Voice(_Model):
    """Samples of a voice, from this sample of the film on."""

    path: str
    start: int


class Bed(_Model):
    """Music under the film, repeated where it is shorter."""

    path: str
    volume: float
    duck: bool


class Mix(_Model):
    """``samples``: of the film, a channel. ``out``: raw samples like the inputs."""

    samples: int
    voices: tuple[Voice, ...] = ()
    music: Bed | None = None
    out: str


class Utterance(_Model):
    """A text to be spoken into the file ``out``. ``voice``: a name of eSpeak's, such as ``en-us`` or ``de``."""

    text: str
    voice: str
    speed: float = 1.0
    out: str


class Spoken(_Model):
    """``words``: seconds at which each word begins, and its place in the text. ``error``: why there is no sound."""

    words: list[tuple[float, int]] = []
    error: str | None = None
