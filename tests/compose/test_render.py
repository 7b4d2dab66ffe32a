"""Windows: the frames that were planned, in the colours that were drawn; kept, and rendered again where they change."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediagen.compose.cache import ContentCache
from mediagen.compose.encoding import PRESETS
from mediagen.compose.engine.orders import EngineLayer
from mediagen.compose.render import Rendered, RenderFailed, WindowRenderer
from mediagen.compose.request import TransitionType
from tests.compose.films import film, pixels, probed

RED, GREEN, BLUE, BLACK = "#c02020", "#20a040", "#2040c0", "#000000"


@pytest.fixture
def cache(tmp_path: Path) -> ContentCache:
    (tmp_path / "cache").mkdir()
    return ContentCache(tmp_path / "cache", 1 << 30)


async def render(
    cache: ContentCache, folder: Path, colours: list[str], **options: object
) -> tuple[Rendered, list[int]]:
    made, timeline = film(folder, colours, **options)  # type: ignore[arg-type]
    told: list[int] = []
    return await WindowRenderer(cache).render(made, timeline.windows(), PRESETS["draft"], told.append), told


def near(colour: tuple[int, int, int], wanted: str) -> bool:
    values = [int(wanted[at : at + 2], 16) for at in (1, 3, 5)]
    return all(abs(one - other) <= 6 for one, other in zip(colour, values, strict=True))


async def test_every_window_has_the_frames_and_the_colours_that_were_planned(
    tmp_path: Path, cache: ContentCache
) -> None:
    done, told = await render(cache, tmp_path, [RED, GREEN, BLUE])

    counts = [int(probed(path)["streams"][0]["nb_read_packets"]) for path in done.windows]
    assert counts == [15, 15, 20]
    assert told == sorted(told)
    assert told[-1] == 50
    first, second = pixels(done.windows[0]), pixels(done.windows[1])
    assert all(near(pixel, RED) for pixel in first)
    assert near(second[-1], GREEN)
    assert second[0][0] > second[2][0] > second[4][0]  # red goes while green comes
    assert second[0][1] < second[2][1] < second[4][1]


async def test_an_edit_of_one_scene_renders_two_windows(tmp_path: Path, cache: ContentCache) -> None:
    before, _ = await render(cache, tmp_path, [RED, GREEN, BLUE, RED])
    after, told = await render(cache, tmp_path, [RED, "#808020", BLUE, RED])

    assert before.kept == 0
    assert after.kept == 2
    assert told[0] == 15 + 20  # what is kept counts as done at once
    assert set(before.windows) & set(after.windows) == {before.windows[0], before.windows[3]}


async def test_nothing_but_whole_windows_stays(tmp_path: Path, cache: ContentCache) -> None:
    done, _ = await render(cache, tmp_path, [RED, GREEN])

    assert sorted(cache.folder.iterdir()) == sorted(done.windows)


async def test_a_scene_that_cannot_be_drawn_fails_and_leaves_nothing(tmp_path: Path, cache: ContentCache) -> None:
    made, timeline = film(tmp_path, [RED, GREEN])
    broken = made.model_copy(
        update={"scenes": (made.scenes[0].model_copy(update={"still": "/nowhere.png"}), made.scenes[1])}
    )

    with pytest.raises(Exception, match="could not be") as failed:
        await WindowRenderer(cache).render(broken, timeline.windows(), PRESETS["draft"], lambda _: None)

    assert failed.type.__name__ in {RenderFailed.__name__, "EncodingFailed"}
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize("transition", list(TransitionType))
async def test_each_transition_ends_with_the_new_scene(
    tmp_path: Path, cache: ContentCache, transition: TransitionType
) -> None:
    done, _ = await render(cache, tmp_path, [RED, BLUE], transition=transition)

    frames = [pixel for path in done.windows for pixel in pixels(path)]
    assert len(frames) == (40 if transition is TransitionType.CUT else 35)
    assert near(frames[0], RED)
    assert near(frames[14], RED)
    assert near(frames[-1], BLUE)
    if transition is TransitionType.FADE:
        assert min(sum(frame) for frame in frames) < 160


async def test_dark_frames_are_counted(tmp_path: Path, cache: ContentCache) -> None:
    done, _ = await render(cache, tmp_path, [RED, BLACK], transition=TransitionType.CUT)

    assert done.dark == {0: 0, 1: 20}


async def test_a_layer_stands_where_and_when_it_was_told(tmp_path: Path, cache: ContentCache) -> None:
    import pyvips

    image = pyvips.Image.black(40, 40).new_from_image([255, 255, 255]).copy(interpretation="srgb").bandjoin(255)
    path = tmp_path / "layer.png"
    image.write_to_file(str(path))
    layer = EngineLayer(path=str(path), x=140, y=70, start=5, end=10)

    done, _ = await render(cache, tmp_path, [RED], layers=[layer])

    frames = pixels(done.windows[0])
    assert [index for index, frame in enumerate(frames) if sum(frame) > 700] == [5, 6, 7, 8, 9]
