"""Specs and provider requests have the options of the request that they derive from."""

from __future__ import annotations

from mediagen.pipelines.derive import derive
from mediagen.pipelines.images import ImageSpec
from mediagen.providers.base import ImageRequest, Size
from mediagen.providers.options import ImageOptions
from mediagen.tasks.requests import stored_form

OPTIONS = {
    "prompt": "fox",
    "model": "m",
    "n": 2,
    "size": "64x48",
    "quality": "high",
    "background": "opaque",
    "output_format": "png",
    "output_compression": 5,
    "style": "vivid",
    "moderation": "low",
    "negative_prompt": "blur",
    "seed": 7,
    "user": "u",
    "partial_images": 1,
}


def test_each_option_is_carried_on() -> None:
    assert set(OPTIONS) == set(ImageOptions.model_fields)
    options = ImageOptions[str].model_validate(OPTIONS)

    spec = derive(ImageSpec, options, extra={"x": 1})
    request = derive(ImageRequest, spec, size=Size(64, 48), inputs=())

    assert stored_form(spec) == {**OPTIONS, "extra": {"x": 1}}
    assert ImageSpec.model_validate(stored_form(spec)) == spec
    assert request == ImageRequest.model_validate({**OPTIONS, "size": Size(64, 48), "extra": {"x": 1}})


def test_what_is_not_given_takes_the_default() -> None:
    spec = derive(ImageSpec, ImageOptions[str].model_validate({"prompt": "fox", "n": None}))

    assert (spec.n, spec.size, spec.inputs, spec.extra) == (1, None, (), {})
    assert stored_form(spec) == {"prompt": "fox"}
