"""Timelines: integer frames without gaps, and windows that cover them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.compose.request import TransitionType
from mediagen.compose.timeline import Timing, place
from mediagen.core.errors import InvalidRequest

CROSSFADE = TransitionType.CROSSFADE


def test_a_transition_overlaps_the_scene_before_it() -> None:
    timings = [Timing(10.5)] + [Timing(10.5, transition=CROSSFADE, overlap=0.5)] * 17

    timeline, warnings = place(timings, 30)

    assert warnings == []
    assert timeline.frames == 5415
    assert timeline.seconds == 180.5
    assert {scene.overlap for scene in timeline.scenes[1:]} == {15}


def test_a_cut_overlaps_nothing() -> None:
    timeline, _ = place([Timing(2.0), Timing(3.0, overlap=0.5)], 30)

    assert [(scene.start, scene.end, scene.overlap) for scene in timeline.scenes] == [(0, 60, 0), (60, 150, 0)]


def test_rounding_does_not_accumulate() -> None:
    timeline, _ = place([Timing(0.35)] * 200, 30)

    assert timeline.frames == 70 * 30
    assert all(abs(scene.start - 0.35 * 30 * scene.index) <= 0.5 for scene in timeline.scenes)


def test_shares_divide_what_is_left() -> None:
    timings = [Timing(4.0), Timing(None, share=1), Timing(None, share=3, transition=CROSSFADE, overlap=1.0)]

    timeline, _ = place(timings, 25, total_seconds=15.0)

    assert timeline.seconds == 15.0
    assert [scene.frames for scene in timeline.scenes] == [100, 75, 225]


def test_a_share_of_nothing_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidRequest) as refused:
        place([Timing(10.0), Timing(None, share=1)], 30, total_seconds=10.0)

    assert refused.value.context["field"] == "scenes[1].duration"


def test_a_transition_longer_than_its_scenes_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidRequest) as refused:
        place([Timing(1.0, fixed=True), Timing(0.5, transition=CROSSFADE, overlap=2.0, fixed=True)], 30)

    assert refused.value.context["field"] == "scenes[1].transition.duration"


def test_a_transition_is_shortened_where_the_voice_decides_the_length() -> None:
    timeline, warnings = place([Timing(5.0), Timing(1.0, transition=CROSSFADE, overlap=2.0)], 30)

    assert timeline.scenes[1].overlap == 29
    assert warnings == [
        "scenes[1].transition.duration was shortened from 2 s to 0.97 s: the scenes beside it are too short"
    ]


@given(
    st.lists(st.tuples(st.floats(0.2, 30), st.floats(0.04, 3), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([10, 24, 25, 30, 60]),
)
def test_windows_cover_the_film_without_gap(scenes: list[tuple[float, float, bool]], fps: int) -> None:
    timings = [
        Timing(seconds, transition=CROSSFADE if fades else TransitionType.CUT, overlap=overlap)
        for seconds, overlap, fades in scenes
    ]

    timeline, _ = place(timings, fps)
    windows = timeline.windows()

    assert windows[0].start == 0
    assert windows[-1].end == timeline.frames
    assert all(before.end == after.start for before, after in pairwise(windows))
    assert all(window.frames > 0 for window in windows)
    for scene, window in zip(timeline.scenes, windows, strict=True):
        assert 0 <= scene.overlap < scene.frames
        assert scene.overlap <= window.frames or scene is timeline.scenes[-1]
