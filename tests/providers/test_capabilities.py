"""What is refused before anything is stored or sent."""

from __future__ import annotations

from typing import Any

import pytest

from mediagen.core.errors import InvalidRequest, UnknownModel
from mediagen.providers.base import (
    ImageAbilities,
    ImageRequest,
    Model,
    Size,
    VideoAbilities,
    VideoRequest,
)
from mediagen.providers.capabilities import check
from tests.providers.vendor_servers import an_input

PICTURES = Model(
    "m",
    images=ImageAbilities(sizes=(Size(1024, 1024),), formats=("png",), backgrounds=("opaque",), max_inputs=1),
)
FILMS = Model("m", videos=VideoAbilities(sizes=(Size(1280, 720),), seconds=(6, 10), inputs=frozenset({"first_frame"})))
PICTURE, MASK = an_input(b"x"), an_input(b"x", role="mask")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"size": Size(1, 1)}, "size"),
        ({"output_format": "webp"}, "output_format"),
        ({"background": "transparent"}, "background"),
        ({"inputs": (PICTURE, PICTURE)}, "image"),
        ({"inputs": (PICTURE, MASK)}, "mask"),
    ],
)
def test_pictures(changes: dict[str, Any], param: str) -> None:
    check(ImageRequest("m", "x", size=Size(1024, 1024), output_format="png", inputs=(PICTURE,)), PICTURES)

    with pytest.raises(InvalidRequest) as refused:
        check(ImageRequest("m", "x", **changes), PICTURES)

    assert refused.value.context["param"] == param


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"size": Size(1, 1)}, "size"),
        ({"seconds": 7}, "seconds"),
        ({"remix_of": "x"}, "remix"),
        ({"inputs": (an_input(b"x", role="last_frame"),)}, "input_reference"),
    ],
)
def test_films(changes: dict[str, Any], param: str) -> None:
    check(
        VideoRequest("m", "x", size=Size(1280, 720), seconds=6.0, inputs=(an_input(b"x", role="first_frame"),)), FILMS
    )

    with pytest.raises(InvalidRequest) as refused:
        check(VideoRequest("m", "x", **changes), FILMS)

    assert refused.value.context["param"] == param


def test_the_longest_film() -> None:
    model = Model("m", videos=VideoAbilities(max_seconds=60))
    check(VideoRequest("m", "x", seconds=60), model)

    with pytest.raises(InvalidRequest, match="at most 60"):
        check(VideoRequest("m", "x", seconds=60.5), model)


def test_what_a_model_does_not_make() -> None:
    for request, model in ((ImageRequest("m", "x"), FILMS), (VideoRequest("m", "x"), PICTURES)):
        with pytest.raises(UnknownModel):
            check(request, model)


@pytest.mark.parametrize(
    "text", ["", "1024", "1024x", "x1", "0x5", "10X10", "10x10x10", "-1x5", "999999x1", "\uff11x1"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Size.parse(text)
