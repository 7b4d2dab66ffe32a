"""Pictures that go with a request: all reach the vendor, or the request is refused; and the forms they go in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import pytest

from mediagen.core.errors import InvalidRequest, ProviderError
from mediagen.providers.base import ImageRequest, Input, Request, Role, VideoRequest
from mediagen.providers.calls.request_bodies import form_body, json_body
from tests.infra.servers.vendor import Say, VendorServer
from tests.providers.forms import FORMS
from tests.providers.vendor_servers import an_input, b64, vendor

ONE, TWO = b"\x89PNG one" * 9, b"\x89PNG two" * 9
CUSTOM: Final = {"mine/model": "pictures"}
VENDORS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "openai": ({"type": "openai"}, "gpt-image-1.5"),
    "openai film": ({"type": "openai"}, "sora-2"),
    **{
        engine: ({"type": "openai", "engine": engine}, "m")
        for engine in ("localai", "sdcpp", "vllm-omni", "sglang", "generic")
    },
    "minimax picture": ({"type": "minimax"}, "image-01"),
    "minimax film": ({"type": "minimax"}, "MiniMax-Hailuo-02"),
    "minimax second film": ({"type": "minimax"}, "MiniMax-H3"),
    "gemini": ({"type": "google"}, "gemini-x"),
    "imagen": ({"type": "google"}, "imagen-x"),
    "veo": ({"type": "google"}, "veo-3"),
    "interactions": ({"type": "google"}, "interactions:x"),
    "replicate": ({"type": "replicate"}, "owner/edit"),
    "replicate, several": ({"type": "replicate"}, "google/nano-banana-2"),
    "replicate, by the settings": ({"type": "replicate", "picture_fields": CUSTOM}, "mine/model"),
    "fal": ({"type": "fal"}, "fal-ai/flux/dev"),
    "fal, several": ({"type": "fal"}, "fal-ai/nano-banana/edit"),
    "fal, by the settings": ({"type": "fal", "picture_fields": CUSTOM}, "mine/model"),
}
ROLES: Final[tuple[tuple[Role, ...], ...]] = (
    ("image",),
    ("image", "image"),
    ("image", "mask"),
    ("mask", "image", "mask"),
    ("first_frame",),
    ("last_frame",),
    ("first_frame", "last_frame"),
    ("first_frame", "first_frame"),
    ("first_frame", "reference"),
    ("reference", "reference"),
    ("last_frame", "last_frame"),
)


@pytest.fixture
def api() -> Iterator[VendorServer]:
    with VendorServer() as server:
        server.on("POST", ".*", Say({"id": "x", "name": "x", "task_id": "x", "request_id": "x"}))
        yield server


async def sent(provider: Any, request: Request) -> None:
    """Ask, whatever comes of it."""
    model = next(each for each in provider.models if each.id == request.model)
    if isinstance(request, ImageRequest) and model.images is not None and not model.images.by_operation:
        with suppress(ProviderError):  # there is no picture in the answer
            async with provider.generate(request) as answer:
                async for _ in answer:
                    pass
    else:
        await provider.submit(request)


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("film", [False, True], ids=["picture", "film"])
async def test_none_is_left_out_in_silence(api: VendorServer, name: str, film: bool) -> None:
    settings, model = VENDORS[name]
    taken = 0
    refused: set[Any] = set()
    async with vendor(api.url, models=(model,), **settings) as provider:
        for roles in ROLES:
            data = [f"picture {number} {role}".encode() * 99 for number, role in enumerate(roles)]
            inputs: tuple[Input, ...] = tuple(an_input(each, role=role) for each, role in zip(data, roles, strict=True))
            request = (VideoRequest if film else ImageRequest)(model=model, prompt="join them", inputs=inputs)
            try:
                provider.check(request, roles)
            except InvalidRequest as exc:
                refused.add(exc.context["param"])
                continue
            await sent(provider, request)
            body = api.asked[-1].body
            assert [each in body or b64(each).encode() in body for each in data] == [True] * len(data), roles
            taken += 1

    assert refused <= {"image", "mask", "input_reference", "model"}
    able = provider.models[0]
    most = able.videos.inputs if film and able.videos else able.images.max_inputs if able.images and not film else 0
    assert (taken > 0) == bool(most)


@pytest.mark.parametrize(
    ("settings", "model", "field"),
    [
        ({"type": "replicate"}, "google/nano-banana", "image_input"),
        ({"type": "replicate"}, "bytedance/seedream-4", "image_input"),
        ({"type": "replicate"}, "black-forest-labs/flux-2-pro", "input_images"),
        ({"type": "replicate", "picture_fields": CUSTOM}, "mine/model", "pictures"),
        ({"type": "fal"}, "fal-ai/nano-banana/edit", "image_urls"),
        ({"type": "fal"}, "fal-ai/bytedance/seedream/v4/edit", "image_urls"),
        ({"type": "fal", "picture_fields": CUSTOM}, "mine/model", "pictures"),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
async def test_an_array_where_the_model_takes_one(
    api: VendorServer, settings: dict[str, Any], model: str, field: str, count: int
) -> None:
    inputs = tuple(an_input(ONE + bytes([number])) for number in range(count))
    async with vendor(api.url, models=(model,), **settings) as provider:
        await provider.submit(ImageRequest(model=model, prompt="join", inputs=inputs))

    document = api.asked[0].json
    assert len(document.get("input", document)[field]) == count
    assert not {"image", "image_url"} & set(document.get("input", document))


HOSTILE: Final = 'a"; filename="x\r\nContent-Type: text/html\r\n\r\n<b>\n\0'


async def bytes_of(body: Any) -> bytes:
    return b"".join([chunk async for chunk in body.chunks()])


@pytest.mark.parametrize("name", [HOSTILE, 'q"', "r\rn", "l\nf", "über 中"])
async def test_a_name_writes_no_headers(api: VendorServer, name: str) -> None:
    file = an_input(ONE, filename=HOSTILE, media_type='image/png\r\nX-Evil: 1"')
    body = form_body({name: "value\r\n--x", "plain": True}, [(name, file)])
    whole = await bytes_of(body)

    heads = [part.split(b"\r\n\r\n")[0].split(b"\r\n") for part in whole.split(b"--" + body.media_type[30:].encode())]
    assert [len(head) for head in heads[1:-1]] == [2, 2, 3]
    assert len(whole) == body.length
    escaped = name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22").replace("\0", "%00")
    assert heads[1][1] == f'Content-Disposition: form-data; name="{escaped}"'.encode()
    assert heads[3][2] == b"Content-Type: application/octet-stream"


@pytest.mark.parametrize("path", ["edits", "film"])
async def test_unknown_fields_reach_openai_as_fields(api: VendorServer, path: str) -> None:
    extra = {HOSTILE: "v", "fine": [1, {"a": None}]}
    async with vendor(api.url, models=("gpt-image-1.5", "sora-2"), type="openai") as provider:
        request: Request = ImageRequest(model="gpt-image-1.5", prompt="x", inputs=(an_input(ONE),), extra=extra)
        if path == "film":
            request = VideoRequest(model="sora-2", prompt="x", extra=extra)
        await sent(provider, request)

    (asked,) = api.asked
    assert b"\r\nContent-Type: text/html" not in asked.body
    assert asked.form["fine"] == [b'[1, {"a": null}]']
    assert len(asked.form) == (6 if path == "edits" else 4)


@pytest.mark.parametrize("make", [form_body, json_body])
@pytest.mark.parametrize("fields", [{"a": "\ud800"}, {"\udfff": "x"}])
def test_half_a_character_is_refused(make: Any, fields: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="half of a surrogate pair, which is not valid Unicode"):
        make(fields)


def test_every_form_is_tried() -> None:
    assert {form.settings["type"] for form in FORMS} == {settings["type"] for settings, _ in VENDORS.values()}
