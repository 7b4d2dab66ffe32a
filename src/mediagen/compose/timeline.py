"""The timeline of a film in integer frames, and the windows in which it is rendered.

    scene 0 ────────────────┐
                      scene 1 ─────────────────┐      a transition overlaps the scene before it
                                         scene 2 ───────────
    │ window 0        │ window 1         │ window 2       │

A window begins where a transition begins, so it shows two scenes at most and can be rendered, kept and replaced alone.
Seconds are rounded once, at the places of the film where something begins or ends; nothing accumulates. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mediagen.compose.field_errors import error_at
from mediagen.compose.request import TransitionType


@dataclass(frozen=True, slots=True)
class Timing:
    """What is known of a scene before frames are counted.

    ``seconds`` None: the scene takes ``share`` of what the film's duration leaves. ``overlap``: seconds of the
    transition from the scene before. ``fixed``: the caller gave the duration, so it is not made to fit a transition.
    """

    seconds: float | None
    share: float = 0.0
    transition: TransitionType = TransitionType.CUT
    overlap: float = 0.0
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """A scene on the timeline: frames ``start`` to ``end``; the first ``overlap`` of them belong to its transition."""

    index: int
    start: int
    end: int
    overlap: int
    transition: TransitionType

    @property
    def frames(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Window:
    """Frames ``start`` to ``end`` of the film: scene ``index``, and while it begins, the one before it."""

    index: int
    start: int
    end: int

    @property
    def frames(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Timeline:
    """Scenes in their order. ``frames`` is the length of the film."""

    fps: int
    scenes: tuple[Placed, ...]

    @property
    def frames(self) -> int:
        return self.scenes[-1].end

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    def windows(self) -> tuple[Window, ...]:
        """One for each scene, without gap or overlap."""
        starts = [scene.start for scene in self.scenes] + [self.frames]
        return tuple(Window(index, starts[index], starts[index + 1]) for index in range(len(self.scenes)))


def place(timings: Sequence[Timing], fps: int, total_seconds: float | None = None) -> tuple[Timeline, list[str]]:
    """The timeline, and what was changed to make it fit, in words.

    Raises:
        InvalidRequest: with ``field`` naming the scene: a transition longer than a scene of fixed length, no time left
            for scenes whose duration is a share.
    """
    warnings: list[str] = []
    seconds = _shared_out(timings, total_seconds)
    overlaps = _fitting(timings, seconds, fps, warnings)
    placed: list[Placed] = []
    begin = 0.0
    for index, timing in enumerate(timings):
        begin = begin - overlaps[index] if index else 0.0
        end = begin + seconds[index]
        start_frame = round(begin * fps)
        overlap = placed[-1].end - start_frame if placed else 0
        end_frame = max(round(end * fps), start_frame + overlap + 1)  # a frame at least stands alone
        transition = timing.transition if overlap else TransitionType.CUT
        placed.append(Placed(index, start_frame, end_frame, overlap, transition))
        begin = end
    return Timeline(fps, tuple(placed)), warnings


def _shared_out(timings: Sequence[Timing], total_seconds: float | None) -> list[float]:
    """The seconds of each scene; those with a share divide what the film's duration leaves."""
    shares = sum(timing.share for timing in timings if timing.seconds is None)
    if not shares:
        return [timing.seconds or 0.0 for timing in timings]
    overlaps = sum(timing.overlap for timing in timings[1:])
    left = (total_seconds or 0.0) + overlaps - sum(timing.seconds or 0.0 for timing in timings)
    seconds = [timing.share / shares * left if timing.seconds is None else timing.seconds for timing in timings]
    for index, timing in enumerate(timings):
        if timing.seconds is None and seconds[index] < 0.2:
            raise error_at(
                f"scenes[{index}].duration",
                f"the film's duration leaves {max(0.0, seconds[index]):.2f} s for this scene; 0.2 s is the least",
            )
    return seconds


def _fitting(timings: Sequence[Timing], seconds: list[float], fps: int, warnings: list[str]) -> list[float]:
    """The overlap of each scene with the one before it. A frame of each scene at least stands alone."""
    overlaps = [0.0] + [
        timing.overlap if timing.transition is not TransitionType.CUT else 0.0 for timing in timings[1:]
    ]
    frame = 1 / fps
    for index in range(1, len(timings)):
        room = min(seconds[index - 1] - overlaps[index - 1], seconds[index]) - frame
        if overlaps[index] <= room + 1e-9:
            continue
        if timings[index].fixed and timings[index - 1].fixed:
            raise error_at(
                f"scenes[{index}].transition.duration",
                f"a transition of {overlaps[index]:g} s does not fit between scenes of {seconds[index - 1]:g} s and "
                f"{seconds[index]:g} s",
            )
        shortened = max(0.0, room)
        warnings.append(
            f"scenes[{index}].transition.duration was shortened from {overlaps[index]:g} s to {shortened:.2f} s: "
            "the scenes beside it are too short"
        )
        overlaps[index] = shortened
    return overlaps
