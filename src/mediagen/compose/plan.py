"""The plan of a film: what is spoken, how long each scene lasts, what stands in it when. Nothing is rendered.

Voices are spoken here, since scenes last as long as they do; speech is kept, so the render does not speak again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mediagen.compose.assets import Preparer
from mediagen.compose.captions import Card, cards_of, reading_seconds, timed_words
from mediagen.compose.drawing import Painter
from mediagen.compose.encoding import PRESETS, Preset
from mediagen.compose.field_errors import error_at
from mediagen.compose.fonts import Fonts
from mediagen.compose.request import Composition, Scene, TransitionType, Voiceover, clean_text
from mediagen.compose.soundtrack import seconds_of
from mediagen.compose.timeline import Placed, Timeline, Timing, place
from mediagen.compose.voices import DEFAULT_VOICE, Speaker, Voice
from mediagen.core.errors import TooLarge
from mediagen.media.vips import VipsPool

MAX_SECONDS: Final = 3600.0
_LEAD: Final = 0.25
"""Seconds between the end of a transition and the voice."""
_TAIL: Final = 0.35
"""Seconds that a scene goes on after its voice."""
_BARE_SECONDS: Final = 4.0
"""How long a scene lasts that has neither a voice nor a text."""
_FRAME_COST: Final = 0.0085
"""Processor seconds for a frame of 1280x720: drawn and encoded in the standard preset."""
_FIXED_COST: Final = 1.5


@dataclass(frozen=True, slots=True)
class Narration:
    """A voice on the timeline. ``start``: seconds of the film; ``words``: as ``voices.Speech`` has them."""

    path: Path
    start: float
    seconds: float
    words: tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class PlannedScene:
    """A scene with its place, its voice, and its cards, whose times are seconds of the film."""

    request: Scene
    placed: Placed
    narration: Narration | None
    cards: tuple[Card, ...]
    clear_end: float
    """Until when it stands alone: the next transition begins."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is known before anything is rendered."""

    request: Composition
    width: int
    height: int
    preset: Preset
    timeline: Timeline
    scenes: tuple[PlannedScene, ...]
    warnings: tuple[str, ...]

    @property
    def estimated_seconds(self) -> float:
        """What the render takes on this machine when nothing is kept from before and nothing else runs."""
        pixels = self.width * self.height / (1280 * 720)
        work = _FRAME_COST * self.timeline.frames * pixels * self.preset.cost
        return round(_FIXED_COST + work / max(1, min(2, os.cpu_count() or 1)), 1)


@dataclass(frozen=True, slots=True)
class _Spoken:
    path: Path
    seconds: float
    words: tuple[tuple[float, int], ...]


class Planner:
    """Plans films. ``voice`` None: nothing can speak, and films are silent with captions."""

    def __init__(self, voice: Voice | None, fonts: Fonts, pool: VipsPool, preparer: Preparer) -> None:
        self._voice = voice
        self._fonts = fonts
        self._pool = pool
        self._preparer = preparer

    async def check(self, request: Composition, *, owner: str | None) -> None:
        """Refuse what can be seen to be wrong without speaking or decoding anything.

        Raises:
            InvalidRequest: with ``field`` naming the field: a font or file that does not exist or is of another kind,
                characters that no font has.
            TooLarge: the given durations alone are too long.
        """
        await self._pool.run(self._painter, request)
        await self._pool.run(self._check_characters, request)
        await self._preparer.check(request, owner=owner)
        given = sum(scene.duration for scene in request.scenes if isinstance(scene.duration, float | int))
        if given > 2 * MAX_SECONDS:
            raise TooLarge(f"the film would last longer than {MAX_SECONDS:.0f} s")

    async def plan(self, request: Composition, *, owner: str | None) -> Plan:
        """The plan.

        Raises:
            InvalidRequest: with ``field`` naming the field: a voice, font or file that does not exist, characters that
                no font has, transitions or shares that do not fit.
            TooLarge: the film is longer than an hour.
        """
        warnings: list[str] = []
        painter = await self._pool.run(self._painter, request)
        await self._pool.run(self._check_characters, request)
        spoken = await self._speak(request, owner, warnings)
        timings = [self._timing(request, index, spoken[index], warnings) for index in range(len(request.scenes))]
        timeline, shortened = place(timings, request.fps, request.duration)
        if timeline.seconds > MAX_SECONDS:
            raise TooLarge(f"the film would last {timeline.seconds:.0f} s; {MAX_SECONDS:.0f} s are the most")
        if request.duration is not None and abs(timeline.seconds - request.duration) > 1 / request.fps:
            warnings.append(
                f"the film lasts {timeline.seconds:.2f} s, not the {request.duration:g} s that were asked for"
            )
        scenes = await self._pool.run(self._scenes, request, timeline, spoken, painter)
        preset, (width, height) = PRESETS[request.preset], request.dimensions
        if preset.height is not None and min(width, height) > preset.height:
            scale = preset.height / min(width, height)
            width, height = round(width * scale / 2) * 2, round(height * scale / 2) * 2
        return Plan(request, width, height, preset, timeline, tuple(scenes), (*warnings, *shortened))

    def painter(self, plan: Plan) -> Painter:
        """What draws the texts of a film. Blocks."""
        return self._painter(plan.request, (plan.width, plan.height))

    def _painter(self, request: Composition, size: tuple[int, int] | None = None) -> Painter:
        style = request.style
        bold = self._fonts.face(style.font, "style.font")
        regular = self._fonts.face(style.font, "style.font", bold=False)
        return Painter(*(size or request.dimensions), style, bold, regular)

    def _check_characters(self, request: Composition) -> None:
        face = self._fonts.face(request.style.font, "style.font")
        for index, scene in enumerate(request.scenes):
            texts = [(f"scenes[{index}].text", clean_text(scene.text))]
            if isinstance(scene.voiceover, Voiceover) and scene.voiceover.text is not None:
                texts.append((f"scenes[{index}].voiceover.text", clean_text(scene.voiceover.text)))
            texts += [(f"scenes[{index}].overlays[{at}].text", one.text) for at, one in enumerate(scene.overlays)]
            for field, text in texts:
                if missing := self._fonts.missing(text, face):
                    raise error_at(
                        field,
                        f"no font of this server can draw {missing[:20]!r}; put one into the stock folder and name it "
                        "in style.font",
                    )

    async def _speak(self, request: Composition, owner: str | None, warnings: list[str]) -> list[_Spoken | None]:
        spoken: list[_Spoken | None] = [None] * len(request.scenes)
        wanted = [(index, scene) for index, scene in enumerate(request.scenes) if scene.voiceover is not False]
        texts = [(index, scene) for index, scene in wanted if _recording(scene) is None]
        for index, scene in wanted:
            if (file_id := _recording(scene)) is not None:
                field = f"scenes[{index}].voiceover.file_id"
                path = await self._preparer.recording(file_id, owner=owner, field=field)
                spoken[index] = _Spoken(path, await asyncio.to_thread(seconds_of, path), ())
        if texts and self._voice is None:
            warnings.append("no voice is available on this server: the film is silent, with captions")
        elif texts and self._voice is not None:
            if self._voice.draft:
                warnings.append(f"the {self._voice.name} voice is a draft voice: clear, but not natural")
            async with self._voice.open() as speaker:
                for index, scene in texts:
                    spoken[index] = await self._say(speaker, request, index, scene)
        return spoken

    async def _say(self, speaker: Speaker, request: Composition, index: int, scene: Scene) -> _Spoken:
        text, voice, field = scene.text, request.voice, "voice"
        if isinstance(scene.voiceover, Voiceover):
            text = scene.voiceover.text or scene.text
            if scene.voiceover.voice is not None:
                voice, field = scene.voiceover.voice, f"scenes[{index}].voiceover.voice"
        text = clean_text(text)
        if not text:
            raise error_at(f"scenes[{index}].voiceover", "there is nothing to speak")
        speech = await speaker.speak(text, voice or DEFAULT_VOICE, request.speed, field=field)
        return _Spoken(speech.path, speech.seconds, speech.words)

    def _timing(self, request: Composition, index: int, spoken: _Spoken | None, warnings: list[str]) -> Timing:
        scene = request.scenes[index]
        overlap, after = _overlap(request, index), _overlap(request, index + 1)
        kind = scene.transition.type if scene.transition is not None else TransitionType.CUT
        timing = Timing(None, transition=kind, overlap=overlap)
        needed = None if spoken is None else overlap + _LEAD + spoken.seconds + _TAIL + after
        if scene.share is not None:
            return replace(timing, share=scene.share)
        if isinstance(scene.duration, float | int):
            if needed is not None and needed > scene.duration:
                warnings.append(
                    f"scenes[{index}].duration was lengthened from {scene.duration:g} s to {needed:.2f} s: "
                    "the voiceover needs it"
                )
                return replace(timing, seconds=needed)
            return replace(timing, seconds=float(scene.duration), fixed=True)
        if needed is not None:
            return replace(timing, seconds=needed)
        text = clean_text(scene.text)
        return replace(timing, seconds=(reading_seconds(text) if text else _BARE_SECONDS) + overlap + after)

    def _scenes(
        self, request: Composition, timeline: Timeline, spoken: Sequence[_Spoken | None], painter: Painter
    ) -> list[PlannedScene]:
        scenes = []
        for index, scene in enumerate(request.scenes):
            placed = timeline.scenes[index]
            begins = (placed.start + placed.overlap) / timeline.fps
            after = timeline.scenes[index + 1].overlap if index + 1 < len(request.scenes) else 0
            ends = (placed.end - after) / timeline.fps
            said, narration = spoken[index], None
            if said is not None:
                narration = Narration(said.path, begins + _LEAD, said.seconds, said.words)
            cards = _cards(scene, narration, begins, ends, painter)
            scenes.append(PlannedScene(scene, placed, narration, cards, ends))
        return scenes


def _recording(scene: Scene) -> str | None:
    """The file that is a scene's voiceover."""
    return scene.voiceover.file_id if isinstance(scene.voiceover, Voiceover) else None


def _overlap(request: Composition, index: int) -> float:
    """Seconds by which scene ``index`` overlaps the one before it."""
    if not 0 < index < len(request.scenes):
        return 0.0
    transition = request.scenes[index].transition
    return 0.0 if transition is None or transition.type is TransitionType.CUT else transition.duration


def _cards(scene: Scene, narration: Narration | None, begins: float, ends: float, painter: Painter) -> tuple[Card, ...]:
    """The cards of a scene, at seconds of the film."""
    text = scene.text
    if isinstance(scene.voiceover, Voiceover) and scene.voiceover.text is not None:
        text = scene.voiceover.text
    text = clean_text(text)
    if not text:
        return ()
    start = begins if narration is None else narration.start
    seconds = max(0.2, ends - begins) if narration is None else narration.seconds
    words = timed_words(text, seconds, () if narration is None else narration.words)
    cards = cards_of(text, words, fits=painter.fits, end=min(seconds + 0.5, ends - start))
    return tuple(
        Card(
            tuple(
                tuple(replace(word, start=word.start + start, end=word.end + start) for word in line)
                for line in card.lines
            ),
            card.start + start,
            min(card.end + start, ends),
        )
        for card in cards
        if card.start + start < ends
    )
