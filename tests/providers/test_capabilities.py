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

PICTURES = Model(
    "m",
    images=ImageAbilities(sizes=(Size(1024, 1024),), formats=("png",), backgrounds=("opaque",), max_inputs=1),
)
FILMS = Model("m", videos=VideoAbilities(sizes=(Size(1280, 720),), seconds=(6, 10), inputs=frozenset({"first_frame"})))


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"size": Size(1, 1)}, "size"),
        ({"output_format": "webp"}, "output_format"),
        ({"background": "transparent"}, "background"),
        ({"roles": ["image", "image"]}, "image"),
        ({"roles": ["image", "mask"]}, "mask"),
    ],
)
def test_pictures(changes: dict[str, Any], param: str) -> None:
    check(ImageRequest(model="m", prompt="x", size=Size(1024, 1024), output_format="png"), PICTURES, ["image"])

    roles = changes.get("roles", [])
    options = {name: value for name, value in changes.items() if name != "roles"}
    with pytest.raises(InvalidRequest) as refused:
        check(ImageRequest(model="m", prompt="x", **options), PICTURES, roles)

    assert refused.value.context["param"] == param


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"size": Size(1, 1)}, "size"),
        ({"seconds": 7}, "seconds"),
        ({"remix_of": "x"}, "remix"),
        ({"roles": ["last_frame"]}, "input_reference"),
    ],
)
def test_films(changes: dict[str, Any], param: str) -> None:
    check(VideoRequest(model="m", prompt="x", size=Size(1280, 720), seconds=6.0), FILMS, ["first_frame"])

    roles = changes.get("roles", [])
    options = {name: value for name, value in changes.items() if name != "roles"}
    with pytest.raises(InvalidRequest) as refused:
        check(VideoRequest(model="m", prompt="x", **options), FILMS, roles)

    assert refused.value.context["param"] == param


def test_the_longest_film() -> None:
    model = Model("m", videos=VideoAbilities(max_seconds=60))
    check(VideoRequest(model="m", prompt="x", seconds=60), model)

    with pytest.raises(InvalidRequest, match="at most 60"):
        check(VideoRequest(model="m", prompt="x", seconds=60.5), model)


def test_what_a_model_does_not_make() -> None:
    for request, model in (
        (ImageRequest(model="m", prompt="x"), FILMS),
        (VideoRequest(model="m", prompt="x"), PICTURES),
    ):
        with pytest.raises(UnknownModel):
            check(request, model)


@pytest.mark.parametrize(
    "text", ["", "1024", "1024x", "x1", "0x5", "10X10", "10x10x10", "-1x5", "999999x1", "\uff11x1"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Size.parse(text)
