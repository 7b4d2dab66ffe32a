"""Fields as browsers, low-code tools and gateways send them: left empty, numbered, without a name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.infra.servers.vendor import VendorServer
from tests.web.conftest import House
from tests.web.openai_compat.test_edits import EDITS, ONE, TWO, VIDEOS, paid, uri, vendor

__all__ = ["paid", "vendor"]

Part = tuple[str, str | None, str | None, bytes]
"""Name, file name (None: the parameter is left out), content type (None: left out), content."""

PICTURES = {"image", "image[]", "mask"}
POSTER = {"model": "builtin-poster", "prompt": "A fox", "size": "64x64"}
CLIP = {"model": "builtin-clip", "prompt": "Waves", "seconds": "1", "size": "64x64"}
FILE = "application/octet-stream"
ASKED: tuple[Part, ...] = (("model", None, None, b"m"), ("prompt", None, None, b"A hat"))


def form(parts: Sequence[Part]) -> dict[str, Any]:
    """A form to the letter: clients of forms write what they are not told to."""
    body = b""
    for name, filename, kind, content in parts:
        named = "" if filename is None else f'; filename="{filename}"'
        typed = "" if kind is None else f"Content-Type: {kind}\r\n"
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n{typed}\r\n'.encode()
        body += content + b"\r\n"
    return {"data": body + b"--b--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}


@pytest.mark.parametrize(
    ("parts", "sent"),
    [
        pytest.param([("image", "a.png", FILE, ONE), ("mask", "", FILE, b"")], {"image": [ONE]}, id="mask left empty"),
        pytest.param(
            [("image", "", FILE, b""), ("image", "a.png", FILE, ONE)], {"image": [ONE]}, id="one of two empty"
        ),
        pytest.param(
            [("image", "a.png", FILE, ONE), ("other", "", FILE, b"")], {"image": [ONE]}, id="a file of nobody"
        ),
        pytest.param(
            [("image", "a.png", FILE, ONE), ("mask", None, None, b"")], {"image": [ONE]}, id="mask empty text"
        ),
        pytest.param([("image", None, "image/png", ONE)], {"image": [ONE]}, id="no filename, a type"),
        pytest.param([("image", None, None, ONE)], {"image": [ONE]}, id="no filename, no type"),
        pytest.param([("image", "", "image/png", ONE)], {"image": [ONE]}, id="an empty filename"),
        pytest.param([("image", None, "image/png", uri(ONE).encode())], {"image": [ONE]}, id="a URI with a type"),
        pytest.param([("image[0]", "a.png", FILE, ONE)], {"image": [ONE]}, id="image[0]"),
        pytest.param(
            [("image[1]", "b.png", FILE, TWO), ("image[0]", "a.png", FILE, ONE)], {"image[]": [ONE, TWO]}, id="numbered"
        ),
        pytest.param(
            [("images[0][image_url]", None, None, uri(ONE).encode())], {"image": [ONE]}, id="numbered objects"
        ),
    ],
)
async def test_a_form_is_taken_as_it_is_meant(
    paid: House, vendor: VendorServer, parts: list[Part], sent: dict[str, list[bytes]]
) -> None:
    status, answer, _ = await paid.ask("POST", EDITS, **form([*ASKED, *parts]))

    assert status == 200, answer
    (call,) = vendor.calls("POST")
    assert {name: value for name, value in call.form.items() if name in PICTURES} == sent


async def test_a_film_begins_with_no_picture_when_its_input_is_left_empty(paid: House) -> None:
    parts = [("model", None, None, b"builtin-clip"), ("prompt", None, None, b"Waves"), ("seconds", None, None, b"1")]

    status, answer, _ = await paid.ask("POST", VIDEOS, **form([*parts, ("input_reference", "", FILE, b"")]))

    assert status == 200, answer


async def test_a_file_where_none_is_taken_is_still_refused(paid: House) -> None:
    status, answer, _ = await paid.ask("POST", EDITS, **form([*ASKED, ("other", "a.bin", FILE, b"x")]))

    assert (status, answer["error"]["param"]) == (415, "other")


async def test_names_of_metadata_stay_names(paid: House) -> None:
    parts: list[Part] = [("image", "a.png", FILE, ONE), ("metadata[0]", None, None, b"x")]

    status, answer, _ = await paid.ask("POST", EDITS, **form([*ASKED, *parts]))

    assert (status, answer["metadata"]) == (200, {"0": "x"})


@pytest.mark.parametrize(
    "image",
    [
        {"type": "image_url", "image_url": uri(ONE)},
        {"type": "image_url", "image_url": {"url": uri(ONE), "detail": "high"}},
        [{"image_url": uri(ONE), "type": "input_image"}],
        {"type": "url", "url": uri(ONE)},
        [{"image_url": ""}, {"image_url": {"url": uri(ONE)}}, None, ""],
    ],
)
async def test_a_picture_may_have_a_type_beside_it(paid: House, vendor: VendorServer, image: Any) -> None:
    status, answer, _ = await paid.ask("POST", EDITS, json={"model": "m", "prompt": "A", "image": image})

    assert status == 200, answer
    assert vendor.calls("POST")[0].form["image"] == [ONE]


async def test_what_is_no_picture_is_still_told(paid: House) -> None:
    for image in ({"b64": "A" * 5000}, {"type": "image_url"}, {"type": "image_url", "image_url": 3}):
        status, answer, _ = await paid.ask("POST", EDITS, json={"model": "m", "prompt": "A", "image": image})
        assert (status, answer["error"]["param"]) == (400, "image"), answer


@pytest.mark.parametrize(
    "field", ["size", "quality", "n", "response_format", "seed", "unknown", "webhook_url", "metadata"]
)
async def test_an_empty_text_is_no_wish(paid: House, field: str) -> None:
    status, answer, _ = await paid.ask("POST", "/v1/images/generations", json={**POSTER, field: ""})
    assert status == 200, answer
    status, answer, _ = await paid.ask("POST", "/v1/videos", json={**CLIP, field: ""})
    assert status == 200, answer


async def test_a_prompt_must_not_be_empty(paid: House) -> None:
    status, answer, _ = await paid.ask("POST", "/v1/images/generations", json={"prompt": ""})
    assert (status, answer["error"]["param"]) == (400, "prompt")


async def test_empty_parameters_of_a_query_say_nothing(paid: House) -> None:
    assert (await paid.ask("GET", "/v1/tasks?after=&limit=&status="))[0] == 200


@pytest.mark.parametrize("path", ["/v1/images/generations", EDITS, "/v1/videos", "/v1/ingest"])
async def test_json_may_begin_with_a_byte_order_mark(paid: House, path: str) -> None:
    """RFC 8259 section 8.1: a parser may ignore it. Tools of Windows write it."""
    asked = {
        "/v1/images/generations": POSTER,
        EDITS: {"model": "m", "prompt": "A", "image": uri(ONE)},
        "/v1/videos": CLIP,
        "/v1/ingest": {"data": uri(ONE)},
    }[path]
    body = b"\xef\xbb\xbf" + json.dumps(asked).encode()

    status, answer, _ = await paid.ask("POST", path, data=body, headers={"Content-Type": "application/json"})

    assert status < 300, answer
