"""What a vendor makes of the wishes of a request: told from what would be sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from mediagen.core.errors import InvalidRequest
from mediagen.providers.base import ImageRequest, Size, VideoRequest
from tests.providers.vendor_servers import opened, vendor

NOWHERE: Final = "http://127.0.0.1:1"
PICTURE: Final[dict[str, Any]] = {
    "size": Size(1920, 1080),
    "quality": "high",
    "background": "opaque",
    "output_format": "webp",
    "output_compression": 80,
    "style": "vivid",
    "moderation": "low",
    "negative_prompt": "blur",
    "seed": 7,
}
FILM: Final[dict[str, Any]] = {"size": Size(1920, 1080), "fps": 24, "seed": 7, "negative_prompt": "blur"}


@pytest.mark.parametrize(
    ("settings", "model", "ignored", "adapted"),
    [
        ({"type": "openai"}, "gpt-image-1.5", "negative_prompt seed", {}),
        ({"type": "openai", "engine": "generic"}, "m", "", {}),
        (
            {"type": "minimax"},
            "image-01",
            "quality background output_format output_compression style moderation negative_prompt",
            {},
        ),
        (
            {"type": "google"},
            "gemini-x",
            "quality background output_format output_compression style moderation negative_prompt",
            {"size": {"aspectRatio": "16:9", "imageSize": "2K"}},
        ),
        (
            {"type": "google"},
            "imagen-x",
            "quality background output_compression style moderation negative_prompt seed",
            {"size": {"aspectRatio": "16:9", "sampleImageSize": "2K"}},
        ),
        (
            {"type": "google"},
            "interactions:x",
            "quality background output_format output_compression style moderation negative_prompt",
            {"size": {"aspect_ratio": "16:9"}},
        ),
        (
            {"type": "replicate"},
            "a/b",
            "quality background style moderation",
            {"size": {"width": 1920, "height": 1080, "aspect_ratio": "16:9"}},
        ),
        ({"type": "fal"}, "a/b", "quality background output_compression style moderation", {}),
    ],
)
async def test_of_pictures(settings: dict[str, Any], model: str, ignored: str, adapted: dict[str, Any]) -> None:
    async with vendor(NOWHERE, models=(model,), **settings) as provider:
        told = provider.effective_options(ImageRequest(model=model, prompt="fox", **PICTURE))

        assert list(told.ignored) == ignored.split()
        assert told.adapted == adapted
        assert provider.effective_options(ImageRequest(model=model, prompt="fox")).ignored == ()


@pytest.mark.parametrize(
    ("settings", "model", "seconds", "ignored", "adapted"),
    [
        ({"type": "openai"}, "sora-2", 8, "fps seed negative_prompt", {}),
        ({"type": "openai", "engine": "generic"}, "m", 5.5, "", {}),
        ({"type": "minimax"}, "MiniMax-Hailuo-02", 6, "fps seed negative_prompt", {"size": {"resolution": "1080P"}}),
        (
            {"type": "google"},
            "veo-3",
            8,
            "fps seed",
            {"size": {"aspectRatio": "16:9", "resolution": "1080p"}},
        ),
        (
            {"type": "google"},
            "interactions:x",
            8,
            "fps negative_prompt",
            {"size": {"aspect_ratio": "16:9", "resolution": "1080p"}},
        ),
        (
            {"type": "replicate"},
            "a/b",
            5,
            "",
            {"size": {"width": 1920, "height": 1080, "aspect_ratio": "16:9"}},
        ),
        ({"type": "fal"}, "a/b", 5, "fps", {"size": {"aspect_ratio": "16:9"}}),
    ],
)
async def test_of_films(
    settings: dict[str, Any], model: str, seconds: float, ignored: str, adapted: dict[str, Any]
) -> None:
    async with vendor(NOWHERE, models=(model,), **settings) as provider:
        told = provider.effective_options(VideoRequest(model=model, prompt="fox", seconds=seconds, **FILM))

        assert list(told.ignored) == ignored.split()
        assert told.adapted == adapted
        remix = provider.effective_options(
            VideoRequest(model=model, prompt="fox", seconds=seconds, remix_of="v", **FILM)
        )
        assert remix.ignored == ()


async def test_a_field_of_the_vendors_own_takes_the_place_of_a_wish() -> None:
    async with vendor(NOWHERE, models=("gemini-x",), type="google") as provider:
        extra = {"generationConfig": {"imageConfig": {"aspectRatio": "1:1"}}}
        told = provider.effective_options(
            ImageRequest(model="gemini-x", prompt="fox", size=Size(1920, 1080), extra=extra)
        )

    assert told.ignored == ("size",)


@pytest.mark.parametrize(
    ("settings", "model", "seconds"),
    [
        ({"type": "replicate"}, "a/b", 5.5),
        ({"type": "minimax"}, "MiniMax-Hailuo-02", 6.5),
        ({"type": "minimax"}, "MiniMax-H3", 4.5),
        ({"type": "google"}, "veo-3", 4.5),
        ({"type": "google"}, "interactions:x", 5.5),
    ],
)
async def test_half_a_second_is_refused_where_whole_ones_are_taken(
    settings: dict[str, Any], model: str, seconds: float
) -> None:
    async with vendor(NOWHERE, models=(model,), **settings) as provider:
        with pytest.raises(InvalidRequest) as refused:
            provider.check(VideoRequest(model=model, prompt="fox", seconds=seconds))

    assert refused.value.context["param"] == "seconds"


@pytest.mark.parametrize(("settings", "model"), [({"type": "fal"}, "a/b"), ({"type": "openai"}, "sora-2")])
async def test_half_a_second_is_sent_where_text_is_taken(settings: dict[str, Any], model: str) -> None:
    async with vendor(NOWHERE, models=(model,), **settings) as provider:
        sent = provider._prepared(VideoRequest(model=model, prompt="fox", seconds=5.5))

    assert "5.5" in (sent.get("duration"), sent.get("seconds"))


@pytest.fixture
async def builtin() -> AsyncIterator[Any]:
    async with opened(NOWHERE, type="fal") as providers:
        yield providers.configured["builtin"].provider


async def test_of_the_built_in_one(builtin: Any) -> None:
    picture = builtin.effective_options(ImageRequest(model="builtin-poster", prompt="fox", **PICTURE))
    png = builtin.effective_options(ImageRequest(model="builtin-poster", prompt="fox", output_compression=5))
    film = builtin.effective_options(
        VideoRequest(model="builtin-clip", prompt="fox", seconds=5.5, extra={"style": "x"}, **FILM)
    )

    assert picture.ignored == ("quality", "style", "moderation", "negative_prompt")
    assert png.ignored == ("output_compression",)
    assert film.ignored == ("negative_prompt", "style")
    assert picture.adapted == film.adapted == {}
