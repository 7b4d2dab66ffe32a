"""Pictures to edit, pictures that films begin with, and pictures that are seen while they are made.

Clients that others wrote, unmodified, against the real server: two majors of ``openai`` for Python and the one for
JavaScript, each in a process of its own (``tests/clients``).
"""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client import Client
from tests.clients.files import MASK, ONE, PNG, TWO, given
from tests.clients.house import ADMIN, NEVER, PICTURE, House
from tests.infra.servers.vendor import Say

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]  # the first test waits for what all of them share

EDITS = "/v1/images/edits"


def uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


WAYS = ("file", "bytes", "bytesio")


@pytest.mark.parametrize("way", WAYS)
def test_one_picture_is_edited(client: Client, house: House, tmp_path: Path, way: str) -> None:
    house.vendor.on("POST", EDITS, PICTURE)
    prompt = house.prompt()
    done = client.call(
        "images.edit",
        at=house.at,
        key=ADMIN,
        image=given(ONE, way, tmp_path),
        model="m",
        prompt=prompt,
        size="1024x1024",
    )

    assert done.error is None
    assert done.exchanges[0].form
    assert len(done.value["data"]) == 1
    asked = house.vendor.calls("POST", EDITS)[-1].form
    assert (asked["image"], asked["prompt"], asked["size"]) == ([ONE], [prompt.encode()], [b"1024x1024"])


def test_several_pictures_are_edited_behind_a_mask(client: Client, house: House, tmp_path: Path) -> None:
    house.vendor.on("POST", EDITS, PICTURE)
    images = [given(ONE, "file", tmp_path), given(TWO, "bytes", tmp_path)]
    mask = given(MASK, "bytesio", tmp_path)
    nothing: dict[str, Any] = {} if client.name == "node" else {"user": None}  # that client cannot write null in a form
    done = client.call(
        "images.edit", at=house.at, key=ADMIN, image=images, mask=mask, model="m", prompt="A fox", n=1, **nothing
    )

    assert done.error is None
    asked = house.vendor.calls("POST", EDITS)[-1].form
    assert (asked["image[]"], asked["mask"]) == ([ONE, TWO], [MASK])


def test_a_picture_that_is_none(client: Client, house: House, tmp_path: Path) -> None:
    before = len(house.vendor.calls("POST", EDITS))
    image = given(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "bytes", tmp_path)
    done = client.call("images.edit", at=house.at, key=ADMIN, image=image, model="m", prompt="A fox")

    assert (done.raised.status, done.raised.code) == (415, "unsupported_media")
    assert len(house.vendor.calls("POST", EDITS)) == before


def stream_of(kind: str) -> Say:
    """What the vendor streams: two earlier states, then the picture."""
    partial: list[dict[str, Any]] = [
        {"type": f"{kind}.partial_image", "partial_image_index": index} for index in range(2)
    ]
    events: list[dict[str, Any]] = [*partial, {"type": f"{kind}.completed", "usage": {"total_tokens": 7}}]
    pictures = [base64.b64encode(PNG + bytes([index]) * 100).decode() for index in range(3)]
    lines = [
        f"event: {event['type']}\ndata: {json.dumps({**event, 'b64_json': picture})}\n\n"
        for event, picture in zip(events, pictures, strict=True)
    ]
    return Say("".join(lines), media_type="text/event-stream")


@pytest.mark.parametrize(("call", "kind"), [("generate", "image_generation"), ("edit", "image_edit")])
def test_a_picture_is_seen_while_it_is_made(client: Client, house: House, tmp_path: Path, call: str, kind: str) -> None:
    house.vendor.on("POST", EDITS if call == "edit" else "/v1/images/generations", stream_of(kind))
    image: dict[str, Any] = {"image": given(ONE, "bytes", tmp_path)} if call == "edit" else {}
    fields: dict[str, Any] = {"model": "gpt", "prompt": "A fox", "stream": True, "partial_images": 2}
    done = client.call(f"images.{call}", at=house.at, key=ADMIN, take="items", **image, **fields)

    assert done.error is None
    assert [event["type"] for event in done.value] == [f"{kind}.partial_image"] * 2 + [f"{kind}.completed"]
    assert [event.get("partial_image_index") for event in done.value] == [0, 1, None]
    shown = [base64.b64decode(event["b64_json"]) for event in done.value]
    assert shown == [PNG + bytes([index]) * 100 for index in range(3)]
    assert all(event["created_at"] > 0 for event in done.value)


# -- films


def begins_with(client: Client, house: House, *, fields: dict[str, Any], extra: dict[str, Any]) -> tuple[bool, bytes]:
    """Ask for a film that begins with a picture; whether it was asked for by a form, and what the vendor was given."""
    prompt = house.job(NEVER).prompt
    # the file stands before the words: the client for JavaScript sends it so
    done = client.call("videos.create", at=house.at, key=ADMIN, **fields, model="m", prompt=prompt, extra=extra)
    assert done.error is None
    house.until(done.value["id"], lambda _: bool(house.asked(prompt)))
    client.call("videos.delete", done.value["id"], at=house.at, key=ADMIN)
    (asked,) = house.asked(prompt)
    head, _, text = asked["input_reference"]["image_url"].partition(",")
    assert head == "data:image/png;base64"
    return done.exchanges[0].form, base64.b64decode(text)


@pytest.mark.parametrize("way", WAYS)
def test_a_film_begins_with_a_file(client: Client, house: House, tmp_path: Path, way: str) -> None:
    form, content = begins_with(client, house, fields={"input_reference": given(ONE, way, tmp_path)}, extra={})

    assert (form, content) == (True, ONE)


@pytest.mark.parametrize(
    "way", ["data", "url", "file_id", "object with data", "object with url", "object with file_id"]
)
def test_a_film_begins_with_a_picture_that_is_named(client: Client, house: House, way: str) -> None:
    """As an object in brackets or in JSON, and as a bare word, which others send."""
    if way.endswith("file_id"):
        name = upload(house, ONE)
    elif way.endswith("url"):
        house.vendor.on("GET", "/fox.png", Say(ONE, media_type="image/png"))
        name = f"{house.vendor.url}/fox.png"
    else:
        name = uri(ONE)
    key = "file_id" if way.endswith("file_id") else "image_url"
    reference = {key: name} if way.startswith("object") else name
    form, content = begins_with(client, house, fields={}, extra={"input_reference": reference})

    assert (form, content) == (client.name != "openai2", ONE)


def upload(house: House, content: bytes) -> str:
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "image/png"}
    request = urllib.request.Request(f"{house.at}/files", content, headers, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["id"])
