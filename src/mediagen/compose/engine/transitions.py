"""How one frame becomes the next scene's. ``share`` goes from 0 (the old scene) to 1 (the new one)."""

from __future__ import annotations

import cv2

from mediagen.compose.engine.planes import Frame, Plane
from mediagen.compose.request import TransitionType


def blend(
    kind: TransitionType, old: Frame, new: Frame, share: float, out: Frame, through: tuple[int, int, int]
) -> None:
    """Draw the moment ``share`` of the transition into ``out``. ``through``: Y, U, V that ``fade`` passes through."""
    if kind is TransitionType.CROSSFADE:
        cv2.addWeighted(old.buffer, 1 - share, new.buffer, share, 0, dst=out.buffer)
        return
    if kind is TransitionType.FADE:
        shown, weight = (old, 1 - 2 * share) if share < 0.5 else (new, 2 * share - 1)
        for source, target, colour in zip(shown.planes, out.planes, through, strict=True):
            cv2.addWeighted(source, weight, source, 0, colour * (1 - weight), dst=target)
        return
    eased = share * share * (3 - 2 * share)
    name, _, direction = kind.value.partition("_")
    for before, after, target in zip(old.planes, new.planes, out.planes, strict=True):
        a, b, into = (before.T, after.T, target.T) if direction in ("up", "down") else (before, after, target)
        edge = round(into.shape[1] * eased)
        if direction in ("right", "down"):  # the new scene comes from the side that the motion leaves
            _join(b, a, into, edge, slides=name == "slide")
        else:
            _join(a, b, into, into.shape[1] - edge, slides=name == "slide")


def _join(before: Plane, behind: Plane, out: Plane, edge: int, *, slides: bool) -> None:
    """``before`` left of column ``edge``, ``behind`` right of it; a slide moves both along with the edge."""
    length = out.shape[1]
    shift = length - edge if slides else 0
    out[:, :edge] = before[:, shift : shift + edge]
    out[:, edge:] = behind[:, : length - edge] if slides else behind[:, edge:]
