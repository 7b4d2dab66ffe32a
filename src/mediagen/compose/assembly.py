"""From a plan to what the engine draws: backgrounds prepared, texts drawn, all of it placed in frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from mediagen.compose.assets import Preparer
from mediagen.compose.cache import ContentCache, key_of
from mediagen.compose.captions import Card
from mediagen.compose.drawing import Drawn, Painter
from mediagen.compose.engine.orders import EngineFilm, EngineLayer, EngineScene
from mediagen.compose.plan import Plan, PlannedScene
from mediagen.compose.request import GradientBackground, Motion, VideoBackground
from mediagen.media.vips import VipsPool

_VERSION: Final = 1
_FADE: Final = 0.2
_TITLE_FADE: Final = 0.4


async def assemble(
    plan: Plan, painter: Painter, preparer: Preparer, cache: ContentCache, pool: VipsPool, *, owner: str | None
) -> EngineFilm:
    """What the engine is told. Raises InvalidRequest naming the field of a file that cannot be used."""
    scenes = [await _scene(plan, planned, preparer, owner) for planned in plan.scenes]
    layers: list[EngineLayer] = []
    for planned in plan.scenes:
        layers += await _overlays(plan, planned, painter, cache, pool)
        if plan.request.subtitles.burned:
            layers += await _captions(plan, planned, painter, cache, pool)
    return EngineFilm(
        width=plan.width,
        height=plan.height,
        fps=plan.timeline.fps,
        through=plan.request.style.background,
        scenes=tuple(scenes),
        layers=tuple(layers),
    )


async def _scene(plan: Plan, planned: PlannedScene, preparer: Preparer, owner: str | None) -> EngineScene:
    placed = planned.placed
    background = planned.request.background or GradientBackground(type="gradient")
    field = f"scenes[{placed.index}].background"
    size = (plan.width, plan.height)
    still = clip = None
    motion = Motion.NONE
    if isinstance(background, VideoBackground):
        clip = str(await preparer.clip(background, size, plan.timeline.fps, placed.frames, owner=owner, field=field))
    else:
        still = str(await preparer.still(background, plan.request.style, size, owner=owner, field=field))
        motion = getattr(background, "motion", Motion.NONE)
    return EngineScene(
        start=placed.start,
        end=placed.end,
        overlap=placed.overlap,
        transition=placed.transition,
        still=still,
        clip=clip,
        motion=motion,
    )


async def _overlays(
    plan: Plan, planned: PlannedScene, painter: Painter, cache: ContentCache, pool: VipsPool
) -> list[EngineLayer]:
    fps, placed = plan.timeline.fps, planned.placed
    layers = []
    for overlay in planned.request.overlays:
        key = [overlay.text, overlay.position.value, overlay.style]
        drawn, path = await _drawn(plan, key, cache, pool, partial(painter.overlay, overlay))
        fade = round(_TITLE_FADE * fps)
        start, end = placed.start + placed.overlap // 2, round(planned.clear_end * fps)
        layers.append(_layer(path, drawn, start, end, fade))
    return layers


async def _captions(
    plan: Plan, planned: PlannedScene, painter: Painter, cache: ContentCache, pool: VipsPool
) -> list[EngineLayer]:
    look, fps = plan.request.subtitles.style, plan.timeline.fps
    spoken = look == "word" and planned.narration is not None and bool(planned.narration.words)
    layers = []
    for card in planned.cards:
        moments: list[tuple[int | None, float, float]] = [(None, card.start, card.end)]
        if spoken:
            words = card.words
            ends = [*(word.start for word in words[1:]), card.end]
            moments = [(index, word.start, end) for index, (word, end) in enumerate(zip(words, ends, strict=True))]
        for number, (index, begins, ends_at) in enumerate(moments):
            key = [card.text, look, index]
            drawn, path = await _drawn(plan, key, cache, pool, partial(painter.caption, card, look, index))
            fade = round(_FADE * fps) if len(moments) == 1 else 0
            start, end = round(begins * fps), round(ends_at * fps)
            if number == 0 or end > start:
                layers.append(_layer(path, drawn, start, max(end, start + 1), fade))
    return layers


def _layer(path: Path, drawn: tuple[int, int], start: int, end: int, fade: int) -> EngineLayer:
    fade = min(fade, max(0, (end - start) // 3))
    return EngineLayer(
        path=str(path), x=drawn[0], y=drawn[1], start=start, end=max(end, start + 1), fade_in=fade, fade_out=fade
    )


async def _drawn(
    plan: Plan, key: Sequence[str | int | None], cache: ContentCache, pool: VipsPool, draw: Callable[[], Drawn]
) -> tuple[tuple[int, int], Path]:
    """A text as an image, and where it stands; drawn once for each text, look and size of the frame."""
    style = plan.request.style.model_dump(mode="json")
    name = key_of("text", version=_VERSION, key=[*key], style=style, size=[plan.width, plan.height])

    async def make(part: Path) -> None:
        drawn = await pool.run(draw)
        await pool.run(drawn.save, part)
        await cache.note(name, [drawn.x, drawn.y])

    path = await cache.get(f"{name}.png", make)
    place = await cache.noted(name)
    if place is None:  # swept apart from its image
        drawn = await pool.run(draw)
        place = [drawn.x, drawn.y]
    return (place[0], place[1]), path


def cards_in(plan: Plan) -> list[Card]:
    """All cards of the film in their order."""
    return [card for planned in plan.scenes for card in planned.cards]
