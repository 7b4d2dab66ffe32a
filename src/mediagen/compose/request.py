"""The request of a composition, as ``POST /v1/compositions`` takes it and as its task keeps it.

Errors carry the path of the field, for example ``scenes.3.background.file_id``. What can only be known later (whether a
file exists, how long a voice speaks) is checked by ``plan``, which names fields in the same way.
"""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

MAX_SCENES: Final = 300
MAX_SECONDS: Final = 3600.0
MAX_TEXT: Final = 2000
MAX_OVERLAYS: Final = 8
_MIN_SIDE: Final = 128
_MAX_SIDE: Final = 3840
_MAX_PIXELS: Final = 3840 * 2160
_SIZE: Final = re.compile(r"(\d{2,5})x(\d{2,5})")
_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)fr")
_UNSEEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\uffff]")

Text: TypeAlias = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Line: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Id: TypeAlias = Annotated[str, StringConstraints(pattern=r"^file_[0-9a-zA-Z_-]{1,64}$")]
Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[\w][\w .@+-]{0,119}$")]
"""The name of a font or a voice: no path separators."""
Colour: TypeAlias = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
"""``#rrggbb`` in sRGB."""


class Aspect(StrEnum):
    """Aspect ratios that have a size of their own; any other picture size goes into ``size``."""

    WIDE = "16:9"
    TALL = "9:16"
    SQUARE = "1:1"
    PORTRAIT = "4:5"


SIZES: Final = {
    Aspect.WIDE: (1280, 720),
    Aspect.TALL: (720, 1280),
    Aspect.SQUARE: (1080, 1080),
    Aspect.PORTRAIT: (1080, 1350),
}


class Motion(StrEnum):
    """How the view moves over a still image while its scene lasts."""

    NONE = "none"
    ZOOM_IN = "zoom_in"
    ZOOM_OUT = "zoom_out"
    PAN_LEFT = "pan_left"
    PAN_RIGHT = "pan_right"
    PAN_UP = "pan_up"
    PAN_DOWN = "pan_down"


class TransitionType(StrEnum):
    """How a scene follows the one before it. ``fade`` goes through the background colour."""

    CUT = "cut"
    CROSSFADE = "crossfade"
    FADE = "fade"
    WIPE_LEFT = "wipe_left"
    WIPE_RIGHT = "wipe_right"
    WIPE_UP = "wipe_up"
    WIPE_DOWN = "wipe_down"
    SLIDE_LEFT = "slide_left"
    SLIDE_RIGHT = "slide_right"
    SLIDE_UP = "slide_up"
    SLIDE_DOWN = "slide_down"


class Position(StrEnum):
    """Where an overlay stands, inside the safe margins."""

    TOP_LEFT = "top_left"
    TOP = "top"
    TOP_RIGHT = "top_right"
    LEFT = "left"
    CENTER = "center"
    RIGHT = "right"
    BOTTOM_LEFT = "bottom_left"
    BOTTOM = "bottom"
    BOTTOM_RIGHT = "bottom_right"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Reference(_Model):
    """A file of the caller's."""

    file_id: Id


class ColorBackground(_Model):
    """One colour. ``color`` None: the style's background."""

    type: Literal["color"]
    color: Colour | None = None


class GradientBackground(_Model):
    """Colours that blend softly; none given: those of the style."""

    type: Literal["gradient"]
    colors: Annotated[list[Colour], Field(min_length=2, max_length=5)] | None = None
    motion: Motion = Motion.NONE


class ImageBackground(_Reference):
    """A still image that fills the frame."""

    type: Literal["image"]
    motion: Motion = Motion.ZOOM_IN


class VideoBackground(_Reference):
    """A video that fills the frame, from ``start`` seconds on; a shorter one begins again."""

    type: Literal["video"]
    start: Annotated[float, Field(ge=0, le=86400)] = 0.0


Background: TypeAlias = Annotated[
    ColorBackground | GradientBackground | ImageBackground | VideoBackground,
    Field(discriminator="type"),
]


class Overlay(_Model):
    """A text that stands over the scene."""

    text: Line
    position: Position = Position.CENTER
    style: Literal["title", "subtitle", "label", "quote"] = "title"


class Voiceover(_Model):
    """What is spoken: the scene's own text, another ``text``, or a recording."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)] | None = None
    voice: Name | None = None
    file_id: Id | None = None

    @model_validator(mode="after")
    def _speaks_or_plays(self) -> Self:
        if self.file_id is not None and (self.text is not None or self.voice is not None):
            raise ValueError("file_id goes without text and voice")
        return self


class Transition(_Model):
    """How the scene follows the one before; ignored by the first scene. ``duration`` in seconds."""

    type: TransitionType = TransitionType.CUT
    duration: Annotated[float, Field(gt=0, le=5)] = 0.5


class Scene(_Model):
    """One scene.

    ``duration``: seconds, ``"voice"`` (as long as the voiceover), or a share such as ``"1fr"`` of the time that the
    film's ``duration`` leaves. None: the voiceover's length, else the time that reading the text takes.
    """

    text: Text = ""
    duration: Annotated[float, Field(ge=0.2, le=600)] | str | None = None
    background: Background | None = None
    overlays: Annotated[tuple[Overlay, ...], Field(max_length=MAX_OVERLAYS)] = ()
    voiceover: bool | Voiceover = False
    transition: Transition | None = None

    @field_validator("duration")
    @classmethod
    def _is_known(cls, duration: float | str | None) -> float | str | None:
        if isinstance(duration, str) and duration != "voice":
            found = _SHARE.fullmatch(duration)
            if found is None or float(found[1]) <= 0:
                raise ValueError('give seconds, "voice", or a share such as "1fr"')
        return duration

    @property
    def share(self) -> float | None:
        """The weight of a duration such as ``"2fr"``."""
        found = _SHARE.fullmatch(self.duration) if isinstance(self.duration, str) else None
        return None if found is None else float(found[1])

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        silent = self.voiceover is False
        if not self.text.strip() and self.background is None and not self.overlays and silent:
            raise ValueError("an empty scene: give a text, a background, an overlay or a voiceover")
        if self.duration == "voice" and silent:
            raise ValueError('duration "voice" needs a voiceover')
        if self.voiceover is True and not self.text.strip():
            raise ValueError("voiceover needs a text")
        return self


class Music(_Reference):
    """Music under the whole film. ``volume``: 0 to 1; ``duck``: quieter while somebody speaks."""

    volume: Annotated[float, Field(ge=0, le=1)] = 0.35
    duck: bool = True


class Subtitles(_Model):
    """``burned``: drawn into the frames; ``track``: a track of the file, and SRT and WebVTT files beside it.

    ``style``: ``word`` highlights each word as it is spoken, where the voice gives times.
    """

    burned: bool = True
    track: bool = True
    style: Literal["box", "outline", "word"] = "box"


class Style(_Model):
    """The brand of a film."""

    background: Colour = "#101418"
    text: Colour = "#ffffff"
    accent: Colour = "#4f8cff"
    font: Name | None = None


class Composition(_Model):
    """A film. Transitions overlap scenes: the film lasts the sum of the durations less the overlaps."""

    title: Annotated[str, StringConstraints(max_length=200, strip_whitespace=True)] | None = None
    size: str | None = None
    aspect: Aspect | None = None
    fps: Annotated[int, Field(ge=10, le=60)] = 30
    duration: Annotated[float, Field(ge=0.5, le=MAX_SECONDS)] | None = None
    """Seconds of the film; scenes whose duration is a share divide what the others leave."""
    preset: Literal["draft", "standard", "small", "archive"] = "standard"
    scenes: Annotated[tuple[Scene, ...], Field(min_length=1, max_length=MAX_SCENES)]
    music: Music | None = None
    voice: Name | None = None
    speed: Annotated[float, Field(ge=0.25, le=4)] = 1.0
    subtitles: Subtitles = Subtitles()
    style: Style = Style()

    @field_validator("size")
    @classmethod
    def _is_size(cls, size: str | None) -> str | None:
        if size is not None:
            _parse_size(size)
        return size

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.size is not None and self.aspect is not None:
            raise ValueError("give size or aspect, not both")
        shares = [index for index, scene in enumerate(self.scenes) if scene.share is not None]
        if shares and self.duration is None:
            raise ValueError(f"scenes.{shares[0]}.duration is a share: give the film's duration")
        return self

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height in pixels, both even."""
        if self.size is not None:
            return _parse_size(self.size)
        return SIZES[self.aspect or Aspect.WIDE]


def _parse_size(size: str) -> tuple[int, int]:
    found = _SIZE.fullmatch(size)
    if found is None:
        raise ValueError('give width and height in pixels, such as "1280x720"')
    width, height = int(found[1]), int(found[2])
    if width % 2 or height % 2:
        raise ValueError("width and height must be even")
    if min(width, height) < _MIN_SIDE or max(width, height) > _MAX_SIDE or width * height > _MAX_PIXELS:
        raise ValueError(f"sides must be {_MIN_SIDE} to {_MAX_SIDE} pixels, {_MAX_PIXELS} pixels in all")
    return width, height


def clean_text(text: str) -> str:
    """``text`` as it is both spoken and shown: without control characters, Markdown marks and runs of spaces."""
    text = _UNSEEN.sub("", text.replace("\r\n", "\n").replace("\t", " "))
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)  # links and images keep their words
    text = re.sub(r"(?m)^\s{0,3}(?:#{1,6}|[-*+]|>|\d{1,3}[.)])\s+", "", text)
    text = re.sub(r"(\*\*|__|\*|`)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    lines = [" ".join(line.split()) for line in text.split("\n")]
    return "\n".join(line for line in lines if line)


_TAGS: Final = frozenset({"color", "gradient", "image", "video", "Voiceover", "bool", "float", "str"})
"""Members of unions, which pydantic puts into the place of an error."""


def field_path(location: tuple[Any, ...]) -> str:
    """``("scenes", 3, "background", "image", "file_id")`` as ``scenes[3].background.file_id``."""
    parts = [
        part
        for before, part in pairwise((None, *location))
        if not (part in _TAGS and before in {"background", "voiceover", "duration"})
    ]
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
