"""Pictures to edit or to begin with, in every form in which clients send them; the vendor gets their very bytes."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.infra.resource import Resource
from tests.infra.servers.source import SourceServer
from tests.infra.servers.vendor import Say, VendorServer
from tests.web.conftest import House, Start

EDITS = "/v1/images/edits"
VIDEOS = "/v1/videos"
OPEN = {"allow_cidrs": ["127.0.0.0/8"]}


def png(seed: int, size: int = 0) -> bytes:
    """A PNG of one pixel, with a chunk of so many bytes that decoders pass over."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = b"\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0"
    pixel = zlib.compress(b"\0" + bytes([seed, 0, 0, 255]))
    extra = chunk(b"teSt", bytes([seed]) * size) if size else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


ONE, TWO, MASK, MADE = png(1), png(2), png(3), png(4)


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as server:
        server.on("POST", EDITS, Say({"created": 1, "data": [{"b64_json": base64.b64encode(MADE).decode()}]}))
        server.on("POST", VIDEOS, Say({"id": "v1", "object": "video", "status": "queued"}))
        server.on("GET", f"{VIDEOS}/v1", Say({"id": "v1", "status": "failed", "error": {"message": "enough"}}))
        yield server


@pytest.fixture
async def paid(start: Start, vendor: VendorServer) -> House:
    """A server whose models ``m`` and ``gpt`` are those of a vendor; ``gpt`` streams."""
    account = {"type": "openai", "base_url": f"{vendor.url}/v1"}
    return await start(
        real=True,
        fetch=OPEN,
        providers={
            "paid": {**account, "engine": "generic", "models": ["m"]},
            "open": {**account, "engine": "openai", "models": ["gpt"]},
        },
    )


def form(*parts: tuple[str, Any]) -> aiohttp.FormData:
    """A form; bytes are files, named as OpenAI's client names raw bytes."""
    made = aiohttp.FormData(default_to_multipart=True)
    for name, value in parts:
        if isinstance(value, bytes):
            made.add_field(name, io.BytesIO(value), filename="upload", content_type="application/octet-stream")
        else:
            made.add_field(name, value)
    return made


def uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


async def upload(house: House, data: bytes, **options: Any) -> str:
    _, file, _ = await house.ask("POST", "/v1/files", data=data, **options)
    return str(file["id"])


def in_store(house: House) -> list[Path]:
    root = Path(house.instance.storage.path_of("x")).parent  # type: ignore[attr-defined]
    return [path for path in root.rglob("*") if path.is_file()]


async def nothing_of_it(house: House, files: int = 0) -> bool:
    tasks, listed = await house.ask("GET", "/v1/tasks"), await house.ask("GET", "/v1/files")
    return (len(tasks[1]["data"]), len(listed[1]["data"]), len(in_store(house))) == (0, files, files)


@pytest.mark.parametrize(
    ("parts", "sent"),
    [
        ([("prompt", "A hat"), ("model", "m"), ("image", ONE)], {"image": [ONE]}),
        ([("image", ONE), ("model", "m"), ("prompt", "A hat")], {"image": [ONE]}),
        ([("model", "m"), ("prompt", "A"), ("image[]", ONE), ("image[]", TWO)], {"image[]": [ONE, TWO]}),
        ([("model", "m"), ("prompt", "A"), ("image", ONE), ("image", TWO)], {"image[]": [ONE, TWO]}),
        ([("mask", MASK), ("model", "m"), ("prompt", "A"), ("image", ONE)], {"image": [ONE], "mask": [MASK]}),
        ([("model", "m"), ("prompt", "A"), ("image", uri(ONE))], {"image": [ONE]}),
        ([("model", "m"), ("prompt", "A"), ("image[image_url]", uri(ONE))], {"image": [ONE]}),
    ],
)
async def test_a_form_brings_pictures(
    paid: House, vendor: VendorServer, parts: list[tuple[str, Any]], sent: dict[str, list[bytes]]
) -> None:
    status, answer, headers = await paid.ask("POST", EDITS, data=form(*parts, ("n", "1"), ("size", "auto")))

    assert status == 200, answer
    (asked,) = vendor.calls("POST", EDITS)
    assert {name: asked.form[name] for name in sent} == sent
    assert asked.form["n"] == [b"1"]
    async with paid.client.get(answer["data"][0]["url"]) as shown:
        assert await shown.read() == MADE
    _, task, _ = await paid.ask("GET", f"/v1/tasks/{headers['x-mediagen-task']}")
    roles = ["image"] * len(sent.get("image", sent.get("image[]", []))) + ["mask"] * len(sent.get("mask", []))
    assert [each["role"] for each in task["request"]["inputs"]] == roles
    _, files, _ = await paid.ask("GET", "/v1/files")
    assert {file["task_id"] for file in files["data"]} == {task["id"]}


@pytest.mark.parametrize("way", ["image", "images", "list", "object", "nested", "bare", "url", "file", "id"])
async def test_json_brings_pictures(paid: House, vendor: VendorServer, source: SourceServer, way: str) -> None:
    file_id = await upload(paid, ONE)
    url = source.add("/one.png", Resource(body=ONE, media_type="image/png"))
    ways: dict[str, dict[str, Any]] = {
        "image": {"image": uri(ONE)},
        "images": {"images": [{"image_url": uri(ONE)}]},
        "list": {"image": [uri(ONE)]},
        "object": {"image": {"image_url": uri(ONE)}},
        "nested": {"image": {"image_url": {"url": uri(ONE)}}},
        "bare": {"image": base64.b64encode(ONE).decode()},
        "url": {"images": [{"image_url": url}]},
        "file": {"images": [{"file_id": file_id}]},
        "id": {"image": file_id},
    }
    sent = {"model": "m", "prompt": "A hat", "mask": None, "n": None, **ways[way]}
    status, answer, _ = await paid.ask("POST", EDITS, json=sent)

    assert status == 200, answer
    assert vendor.calls("POST", EDITS)[0].form["image"] == [ONE]
    assert len(in_store(paid)) == (2 if way in {"file", "id"} else 3)  # a file that is here already is not copied


async def test_large_pictures_pass_through(paid: House, vendor: VendorServer) -> None:
    large = png(9, 9_000_000)  # more than a JSON body may have beside its pictures
    document = io.BytesIO(json.dumps({"image": uri(large), "model": "m", "prompt": "A"}).encode())
    for data in (form(("model", "m"), ("prompt", "A"), ("image", large)), document):
        status, answer, _ = await paid.ask("POST", EDITS, data=data)
        assert status == 200, answer
        assert vendor.calls("POST", EDITS)[-1].form["image"] == [large]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({}, 400, "image"),
        ({"image": []}, 400, "image"),
        ({"mask": uri(MASK)}, 400, "image"),
        ({"image": [uri(ONE)] * 17}, 400, "image"),
        ({"image": {"image_url": uri(ONE), "file_id": "file_" + "0" * 32}}, 400, "image"),
        ({"image": {"href": "x"}}, 400, "image"),
        ({"image": 7}, 400, "image"),
        ({"image": "file_" + "0" * 32}, 400, "file_id"),
        ({"image": "%%%"}, 400, "image"),
        ({"image": "data:image/png,abc"}, 415, "image"),
        ({"image": uri(b"just text, whatever the head of the URI says " * 20)}, 415, "image"),
        ({"image": uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>")}, 415, None),
        ({"image": "http://10.0.0.1/a.png"}, 400, "image"),
        ({"image": "http://127.0.0.1:1/a.png"}, 400, None),
        ({"image": [uri(ONE), uri(TWO)], "model": "builtin-poster"}, 400, "image"),
        ({"image": uri(ONE), "mask": uri(MASK), "model": "builtin-poster"}, 400, "mask"),
        ({"image": uri(ONE), "model": "nobody"}, 400, "model"),
        ({"image": uri(ONE), "prompt": ""}, 400, "prompt"),
        ({"image": uri(ONE), "size": "huge"}, 400, "size"),
        ({"image": uri(ONE), "metadata": {"a": "b" * 513}}, 400, "metadata.a"),
    ],
)
async def test_what_cannot_be_edited_is_refused_and_nothing_is_kept(
    paid: House, vendor: VendorServer, fields: dict[str, Any], status: int, param: str | None
) -> None:
    for as_form in (False, True):
        if as_form and not all(isinstance(value, str) for value in fields.values()):
            continue
        asked = {"model": "m", "prompt": "A hat", **fields}
        sent = {"data": form(*asked.items())} if as_form else {"json": asked}
        answered, answer, _ = await paid.ask("POST", EDITS, **sent)

        assert answered == status, answer
        assert set(answer) == {"error"}
        if param is not None:
            assert answer["error"]["param"] == param, answer
        assert await nothing_of_it(paid)
    assert vendor.calls("POST") == []


@pytest.mark.parametrize("cut", [0.3, 0.9])
async def test_a_form_that_breaks_off_leaves_nothing(paid: House, cut: float) -> None:
    def part(name: str, data: bytes, filename: str = "") -> bytes:
        named = f'; filename="{filename}"' if filename else ""
        return f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + data + b"\r\n"

    whole = part("model", b"m") + part("prompt", b"A") + part("image", png(1, 200_000), "a") + part("mask", MASK, "b")
    status, answer, _ = await paid.ask(
        "POST",
        EDITS,
        data=whole[: int(len(whole) * cut)],
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )

    assert (status, set(answer)) == (400, {"error"})
    assert await nothing_of_it(paid)


async def test_a_file_in_another_field_is_refused(paid: House) -> None:
    status, answer, _ = await paid.ask("POST", EDITS, data=form(("model", "m"), ("prompt", "A"), ("picture", ONE)))

    assert (status, answer["error"]["param"]) == (415, "picture")
    assert await nothing_of_it(paid)


async def test_another_owners_picture_is_unknown(start: Start, vendor: VendorServer) -> None:
    account = {"type": "openai", "base_url": f"{vendor.url}/v1", "engine": "generic", "models": ["m"]}
    house = await start(
        real=True, fetch=OPEN, auth={"required": "true", "admin_key": "root-key"}, providers={"paid": account}
    )
    keys = []
    for name in ("alice", "bob"):
        _, key, _ = await house.ask(
            "POST", "/v1/keys", json={"name": name}, headers={"Authorization": "Bearer root-key"}
        )
        keys.append({"Authorization": f"Bearer {key['key']}"})
    file_id = await upload(house, ONE, headers=keys[0])
    asked = {"model": "m", "prompt": "A", "image": file_id}

    status, answer, _ = await house.ask("POST", EDITS, json=asked, headers=keys[1])
    assert (status, answer["error"]["message"]) == (400, f"there is no file {file_id}")
    status, answer, _ = await house.ask("POST", EDITS, json=asked, headers=keys[0])
    assert status == 200, answer


async def test_the_same_edit_again_is_the_first_one(paid: House, vendor: VendorServer) -> None:
    async def sent(picture: bytes, **headers: str) -> tuple[int, Any]:
        data = form(("model", "m"), ("prompt", "A"), ("image", picture))
        status, answer, _ = await paid.ask("POST", EDITS, data=data, headers=headers)
        return status, answer

    keyed = {"Idempotency-Key": "k"}
    _, first = await sent(ONE, **keyed)
    _, second = await sent(ONE, **keyed)
    assert first["task_id"] == second["task_id"]
    status, _ = await sent(TWO, **keyed)
    assert status in {400, 422}
    _, plain = await sent(ONE)
    _, repeated = await sent(ONE, **{"x-stainless-retry-count": "1"})
    assert plain["task_id"] == repeated["task_id"] != first["task_id"]
    assert len(vendor.calls("POST", EDITS)) == 2
    assert len(in_store(paid)) == 4  # a picture and what was made of it, twice


async def test_a_retry_has_the_same_pictures_and_deleting_removes_them(paid: House, vendor: VendorServer) -> None:
    good = Say({"created": 1, "data": [{"b64_json": base64.b64encode(MADE).decode()}]})
    vendor.on("POST", EDITS, Say({"error": {"message": "sick"}}, 500), good)
    kept = await upload(paid, TWO)
    sent = {"model": "m", "prompt": "A", "image": [uri(ONE), kept], "metadata": {"order": "7"}}
    status, _, headers = await paid.ask("POST", EDITS, json=sent)
    assert status == 502
    task_id = headers["x-mediagen-task"]

    await paid.ask("POST", f"/v1/tasks/{task_id}/retry")
    task = await paid.ended(task_id)

    assert task["status"] == "completed", task["error"]
    assert [call.form["image[]"] for call in vendor.calls("POST", EDITS)] == [[ONE, TWO]] * 2
    assert task["request"]["metadata"] == {"order": "7"}
    assert len(in_store(paid)) == 3
    await paid.ask("DELETE", f"/v1/tasks/{task_id}?media=true")
    assert [path.read_bytes() for path in in_store(paid)] == [TWO]  # it was there before


async def test_a_picture_that_is_deleted_before_the_retry_fails_it(paid: House, vendor: VendorServer) -> None:
    vendor.on("POST", EDITS, Say({"error": {"message": "sick"}}, 500))
    _, _, headers = await paid.ask("POST", EDITS, json={"model": "m", "prompt": "A", "image": uri(ONE)})
    task_id = headers["x-mediagen-task"]
    _, files, _ = await paid.ask("GET", "/v1/files")
    await paid.ask("DELETE", f"/v1/files/{files['data'][0]['id']}")

    await paid.ask("POST", f"/v1/tasks/{task_id}/retry")
    error = (await paid.ended(task_id))["error"]

    assert (error["code"], error["retryable"]) == ("invalid_request", False)
    assert files["data"][0]["id"] in error["message"]


async def test_the_built_in_one_puts_a_picture_behind_the_words(paid: House) -> None:
    sent = {"model": "builtin-poster", "prompt": "A hat", "size": "128x96", "image": uri(ONE)}
    status, answer, _ = await paid.ask("POST", EDITS, json=sent)
    assert status == 200, answer
    async with paid.client.get(answer["data"][0]["url"]) as shown:
        assert (await shown.read()).startswith(ONE[:8])

    status, answer, _ = await paid.ask("POST", EDITS, json=sent | {"image": uri(ONE[:40])})
    assert (status, answer["error"]["code"]) == (415, "unsupported_media")


async def test_an_edit_can_be_a_task_or_a_stream(paid: House) -> None:
    fields = [("model", "m"), ("prompt", "A"), ("image", ONE)]
    status, task, _ = await paid.ask("POST", EDITS, data=form(*fields), headers={"Prefer": "respond-async"})
    assert (status, task["object"]) == (202, "task")
    assert (await paid.ended(task["id"]))["status"] == "completed"

    async with paid.client.post(paid.url + EDITS, data=form(*fields, ("stream", "true"))) as answer:
        events = events_of((await answer.read()).decode())
    assert [event["type"] for event in events] == ["image_edit.completed"]
    assert base64.b64decode(events[0]["b64_json"]) == MADE


def events_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


@pytest.mark.parametrize("path", [EDITS, "/v1/images/generations"])
async def test_earlier_states_are_shown_and_not_kept(paid: House, vendor: VendorServer, path: str) -> None:
    def event(name: str, data: bytes, **more: Any) -> str:
        document = {"type": name, "b64_json": base64.b64encode(data).decode(), **more}
        return f"event: {name}\ndata: {json.dumps(document)}\n\n"

    word = "image_edit" if path == EDITS else "image_generation"
    states = [png(20 + number, 300_000) for number in range(2)]
    said = "".join(event(f"{word}.partial_image", data, partial_image_index=at) for at, data in enumerate(states))
    said += event(f"{word}.completed", MADE, usage={"total_tokens": 5}) + "data: [DONE]\n\n"
    vendor.on("POST", path, Say(said, media_type="text/event-stream"))
    fields = {"model": "gpt", "prompt": "A", "stream": True, "partial_images": 2, "size": "1024x1024"}
    if path == EDITS:
        fields["image"] = uri(ONE)

    async with paid.client.post(paid.url + path, json=fields) as answer:
        events = events_of((await answer.read()).decode())

    assert [each["type"] for each in events] == [f"{word}.partial_image"] * 2 + [f"{word}.completed"]
    assert [base64.b64decode(each["b64_json"]) for each in events] == [*states, MADE]
    assert [each["partial_image_index"] for each in events[:2]] == [0, 1]
    assert {"created_at", "size", "quality", "background", "output_format"} <= set(events[0])
    assert events[2]["usage"] == {"total_tokens": 5}
    assert len(in_store(paid)) == (2 if path == EDITS else 1)


async def test_who_leaves_a_stream_leaves_the_work_to_go_on(paid: House, vendor: VendorServer) -> None:
    vendor.on("POST", "/v1/images/generations", Say(silent=True))
    answer = await paid.client.post(
        f"{paid.url}/v1/images/generations", json={"model": "gpt", "prompt": "A", "stream": True, "partial_images": 1}
    )
    task_id = answer.headers["x-mediagen-task"]
    assert (await answer.content.readline()).startswith(b": task_")
    answer.close()

    _, task, _ = await paid.ask("GET", f"/v1/tasks/{task_id}")
    assert task["status"] in {"queued", "running"}
    assert (await paid.ask("POST", f"/v1/tasks/{task_id}/cancel"))[1]["status"] == "cancelled"


@pytest.mark.parametrize(
    "sent",
    [
        {"data": form(("model", "m"), ("prompt", "A"), ("seconds", "4"), ("input_reference", ONE))},
        {"data": form(("input_reference[image_url]", uri(ONE)), ("model", "m"), ("prompt", "A"), ("seconds", "4"))},
        {"json": {"model": "m", "prompt": "A", "seconds": "4", "input_reference": {"image_url": uri(ONE)}}},
        {"json": {"model": "m", "prompt": "A", "seconds": 4, "input_reference": uri(ONE)}},
        {"json": {"model": "m", "prompt": "A", "duration": 4, "first_frame": {"image_url": uri(ONE)}}},
    ],
)
async def test_a_film_begins_with_a_picture(paid: House, vendor: VendorServer, sent: dict[str, Any]) -> None:
    status, video, _ = await paid.ask("POST", VIDEOS, **sent)
    assert status == 200, video
    await paid.ended(video["task_id"])

    (asked,) = vendor.calls("POST", VIDEOS)
    given = asked.json
    assert (given["prompt"], given["seconds"], given["input_reference"]) == ("A", "4", {"image_url": uri(ONE)})
    assert (await paid.ask("DELETE", f"/v1/videos/{video['id']}"))[0] == 200
    assert in_store(paid) == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input_reference": uri(ONE), "first_frame": uri(TWO)}, "input_reference"),
        ({"last_frame": uri(ONE)}, "input_reference"),  # the model takes none
        ({"input_reference": uri(ONE), "model": "builtin-clip"}, "input_reference"),
        ({"input_reference": [uri(ONE), uri(TWO)]}, "input_reference"),
    ],
)
async def test_a_film_that_cannot_begin_so_is_refused(paid: House, fields: dict[str, Any], param: str) -> None:
    status, answer, _ = await paid.ask("POST", VIDEOS, json={"model": "m", "prompt": "A", **fields})

    assert (status, answer["error"]["param"]) == (400, param), answer
    assert await nothing_of_it(paid)
