"""Pictures over HTTP: by the built-in provider, and by a vendor that is scripted."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.servers.vendor import Say, VendorServer
from tests.web.conftest import House, Start

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0" + bytes(40)
PATH = "/v1/images/generations"


@pytest.fixture
async def real(start: Start) -> House:
    return await start(real=True)


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.fixture
async def paid(start: Start, vendor: VendorServer) -> House:
    """A server whose model ``m`` is that of a vendor."""
    settings = {"type": "openai", "engine": "generic", "base_url": f"{vendor.url}/v1", "models": ["m"]}
    return await start(real=True, providers={"paid": settings})


def picture(data: bytes = PNG) -> dict[str, str]:
    return {"b64_json": base64.b64encode(data).decode()}


async def test_a_picture_is_in_the_store_and_its_url_gives_it(real: House) -> None:
    asked = {"prompt": "A fox", "size": "128x96", "n": 2, "response_format": None, "user": None}
    status, answer, headers = await real.ask("POST", PATH, json=asked)

    assert status == 200, answer
    assert (answer["model"], answer["size"], len(answer["data"])) == ("builtin-poster", "128x96", 2)
    assert headers["x-mediagen-task"] == answer["task_id"]
    for each in answer["data"]:
        async with real.client.get(each["url"]) as shown:
            assert (shown.status, shown.content_type) == (200, "image/png")
            assert (await shown.read()).startswith(PNG[:8])
    _, task, _ = await real.ask("GET", f"/v1/tasks/{answer['task_id']}")
    assert [file["id"] for file in task["result"]["files"]] == [each["file_id"] for each in answer["data"]]


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
async def test_a_picture_comes_in_the_answer(real: House, form: str) -> None:
    asked = {"prompt": "A fox", "size": "128x96", "response_format": "b64_json", "output_format": form}
    status, answer, _ = await real.ask("POST", PATH, json=asked)

    assert status == 200, answer
    data = base64.b64decode(answer["data"][0]["b64_json"], validate=True)
    async with real.client.get(answer["data"][0]["url"]) as shown:
        assert (await shown.read(), shown.content_type) == (data, f"image/{form}")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "dall-e-9"}, "model"),
        ({"model": "builtin-clip"}, "model"),
        ({"size": "large"}, "size"),
        ({"size": "1x1"}, "size"),
        ({"n": 11}, "n"),
        ({"n": 0}, "n"),
        ({"output_format": "gif"}, "output_format"),
        ({"background": "blue"}, "background"),
        ({"frobs": 1}, "frobs"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"response_format": "xml"}, "response_format"),
    ],
)
async def test_what_cannot_be_made_is_refused_before_it_is_a_task(real: House, fields: Any, param: str) -> None:
    status, answer, _ = await real.ask("POST", PATH, json={"prompt": "A fox", **fields})

    assert status == 400
    assert set(answer) == {"error"}
    assert (answer["error"]["type"], answer["error"]["param"]) == ("invalid_request_error", param)
    assert (await real.ask("GET", "/v1/tasks"))[1]["data"] == []


@pytest.mark.parametrize(
    ("usual", "said", "in_text"),
    [
        ("b64_json", None, True),
        ("b64_json", "url", False),
        ("url", None, False),
        ("url", "b64_json", True),
        ("both", None, True),
        ("both", "url", False),
    ],
)
async def test_how_a_picture_is_answered_is_the_providers_setting(
    start: Start, vendor: VendorServer, usual: str, said: str | None, in_text: bool
) -> None:
    account = {"type": "openai", "engine": "generic", "base_url": f"{vendor.url}/v1", "models": ["m"]}
    house = await start(real=True, providers={"paid": {**account, "response_format": usual}})
    vendor.on("POST", PATH, Say({"data": [picture()]}))
    _, answer, _ = await house.ask("POST", PATH, json={"model": "m", "prompt": "A fox", "response_format": said})

    (made,) = answer["data"]
    assert (made["b64_json"] is not None, made["url"] is not None) == (in_text, True)


@pytest.mark.parametrize(("inline", "in_text"), [(len(PNG), True), (len(PNG) - 1, False), (0, False)])
async def test_a_large_picture_is_a_url_unless_base64_is_asked_for(
    start: Start, vendor: VendorServer, inline: int, in_text: bool
) -> None:
    account = {"type": "openai", "engine": "generic", "base_url": f"{vendor.url}/v1", "models": ["m"]}
    house = await start(real=True, providers={"paid": account}, limits={"inline_image_bytes": inline})
    vendor.on("POST", PATH, Say({"data": [picture()]}))

    _, answer, _ = await house.ask("POST", PATH, json={"model": "m", "prompt": "A fox"})
    _, asked, _ = await house.ask("POST", PATH, json={"model": "m", "prompt": "A fox", "response_format": "b64_json"})

    assert answer["data"][0]["b64_json"] == (picture()["b64_json"] if in_text else None)
    assert answer["data"][0]["url"].startswith(house.url)
    assert asked["data"][0]["b64_json"] == picture()["b64_json"]


async def test_a_client_whose_base_url_lacks_v1_is_served(real: House) -> None:
    status, answer, _ = await real.ask("POST", "/images/generations", json={"prompt": "A fox", "size": "128x96"})
    assert (status, len(answer["data"])) == (200, 1)
    status, answer, _ = await real.ask("POST", "/videos", json={"prompt": "A fox", "seconds": "30"})
    assert (status, answer["object"]) == (200, "video")
    status, answer, _ = await real.ask("DELETE", f"/videos/{answer['id']}")
    assert (status, answer["deleted"]) == (200, True)
    for path in ("/videos/video_0", "/models/nobody", "/images/nothing"):
        status, answer, _ = await real.ask("GET", path)
        assert (status, set(answer)) == (404, {"error"})


async def test_a_stream_beats_and_then_gives_each_picture(real: House) -> None:
    asked = {"prompt": "A fox", "size": "128x96", "n": 2, "stream": True}
    async with real.client.post(real.url + PATH, json=asked) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        text = (await answer.read()).decode()

    assert text.startswith(": task_")
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in events] == ["image_generation.completed"] * 2
    assert all(base64.b64decode(event["b64_json"]).startswith(PNG[:8]) for event in events)


@pytest.mark.parametrize("way", ["header", "path"])
async def test_a_picture_can_be_waited_for_as_a_task(real: House, way: str) -> None:
    path, headers = (PATH, {"Prefer": "respond-async"}) if way == "header" else (f"{PATH}/async", {})
    status, task, answered = await real.ask("POST", path, json={"prompt": "A fox", "size": "128x96"}, headers=headers)

    assert (status, answered["Location"]) == (202, f"/v1/tasks/{task['id']}")
    assert (await real.ended(task["id"]))["status"] == "completed"


async def test_a_vendors_picture_is_kept_here(paid: House, vendor: VendorServer) -> None:
    usage = {"input_tokens": 7, "output_tokens": 9, "total_tokens": 16, "cost": 0.02}
    vendor.on("POST", PATH, Say({"created": 1, "data": [picture(), picture(PNG + b"!")], "usage": usage}))
    status, answer, _ = await paid.ask("POST", PATH, json={"model": "m", "prompt": "A fox", "n": 2, "strength": 0.4})

    assert status == 200, answer
    assert (answer["usage"], answer["cost_usd"]) == (usage, 0.02)
    found = []
    for each in answer["data"]:
        async with paid.client.get(each["url"]) as shown:
            found.append(await shown.read())
    assert found == [PNG, PNG + b"!"]
    (asked,) = vendor.calls("POST", PATH)
    assert (asked.json["n"], asked.json["strength"]) == (2, 0.4)  # what we do not know is for the vendor


@pytest.mark.parametrize(
    ("say", "status", "code", "repeat"),
    [
        (Say({"error": {"message": "no", "code": "moderation_blocked"}}, 400), 400, "content_refused", "false"),
        (Say({"error": {"message": "slow"}}, 429, {"Retry-After": "900"}), 429, "provider_rate_limited", "false"),
        (Say({"error": {"message": "key"}}, 401), 502, "provider_error", "false"),
        (Say({"error": {"message": "sick"}}, 500), 502, "provider_error", None),
        (Say("<html>", media_type="text/html"), 502, "provider_error", "false"),
        (Say(lost=True), 502, "outcome_unknown", "false"),
        (Say({"created": 1, "data": []}), 502, "provider_error", "false"),
    ],
)
async def test_a_vendors_fault_is_an_error_of_the_call(
    paid: House, vendor: VendorServer, say: Say, status: int, code: str, repeat: str | None
) -> None:
    vendor.on("POST", PATH, say)
    answered, answer, headers = await paid.ask("POST", PATH, json={"model": "m", "prompt": "A fox"})

    assert (answered, answer["error"]["code"]) == (status, code), answer
    assert headers.get("x-should-retry") == repeat
    assert ("Retry-After" in headers) is (status == 429)
    assert len(vendor.calls("POST", PATH)) == 1
    _, page, _ = await paid.ask("GET", "/v1/tasks")
    assert [task["status"] for task in page["data"]] == ["failed"]
    assert (await paid.ask("GET", "/v1/files"))[1]["data"] == []


async def test_a_picture_that_breaks_off_leaves_nothing(paid: House, vendor: VendorServer) -> None:
    whole = json.dumps({"data": [picture(), picture(PNG * 400)]})
    vendor.on("POST", PATH, Say(whole, cut=len(whole) // 2))
    status, answer, _ = await paid.ask("POST", PATH, json={"model": "m", "prompt": "A fox", "n": 2})

    assert (status, answer["error"]["code"]) == (502, "outcome_unknown")
    assert (await paid.ask("GET", "/v1/files"))[1]["data"] == []


async def test_a_client_that_lost_the_answer_pays_once(paid: House, vendor: VendorServer) -> None:
    vendor.on("POST", PATH, Say({"data": [picture()]}))
    asked = {"model": "m", "prompt": "A fox"}

    async def task_of(**headers: str) -> str:
        status, answer, _ = await paid.ask("POST", PATH, json=asked, headers=headers)
        assert status == 200, answer
        return str(answer["task_id"])

    first = await task_of()
    assert await task_of(**{"x-stainless-retry-count": "1"}) == first
    assert await task_of() != first  # the same wish again is new work
    keyed = {"Idempotency-Key": "k"}
    assert len({await task_of(**keyed), await task_of(**keyed)}) == 1
    other = await paid.ask("POST", PATH, json={**asked, "prompt": "A hare"}, headers=keyed)
    assert (other[0], other[1]["error"]["code"]) == (422, "idempotency_mismatch")
    assert other[1]["error"]["param"] == "Idempotency-Key"
    assert len(vendor.calls("POST", PATH)) == 3


async def test_a_call_that_is_left_goes_on_as_a_task(paid: House, vendor: VendorServer) -> None:
    vendor.on("POST", PATH, Say(silent=True))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await paid.ask("POST", PATH, json={"model": "m", "prompt": "A fox"})

    _, page, _ = await paid.ask("GET", "/v1/tasks")
    (task,) = page["data"]
    assert task["status"] == "running"
    assert (await paid.ask("POST", f"/v1/tasks/{task['id']}/cancel"))[1]["status"] == "cancelled"


async def test_models_say_what_they_can(paid: House) -> None:
    _, listed, _ = await paid.ask("GET", "/v1/models")
    models = {model["id"]: model for model in listed["data"]}

    assert list(models) == ["m", "builtin-poster", "builtin-clip"]
    assert (models["builtin-poster"]["generative"], models["m"]["owned_by"]) == (False, "paid")
    assert (await paid.ask("GET", "/v1/models/builtin-clip"))[1] == models["builtin-clip"]
    status, answer, _ = await paid.ask("GET", "/v1/models/nothing")
    assert (status, answer["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"A fox"', "application/json"),
        (b'{"prompt": "\xff"}', "application/json"),
        (b'{"prompt": "A fox", "seed": NaN}', "application/json"),
        (b'{"prompt": "A fox", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "application/json"),
        (b"prompt=fox", "application/x-www-form-urlencoded"),
        (b"--b\r\n", "multipart/form-data; boundary=b"),
        (b"a fox", "text/plain"),
    ],
)
async def test_a_body_that_is_no_request_is_refused(real: House, body: bytes, kind: str) -> None:
    status, answer, _ = await real.ask("POST", PATH, data=body, headers={"Content-Type": kind})

    assert status in {400, 415}, answer
    assert set(answer) == {"error"}
    assert answer["error"]["type"] == "invalid_request_error"
    assert (await real.ask("GET", "/v1/tasks"))[1]["data"] == []


@pytest.mark.parametrize("path", [PATH, f"{PATH}/async", "/v1/videos"])
async def test_a_wrong_key_is_refused_in_the_words_of_openai(start: Start, path: str) -> None:
    house = await start(real=True, auth={"required": True})
    for headers in ({}, {"Authorization": "Bearer sk-nobody"}, {"Authorization": "Basic eDp5"}):
        status, answer, answered = await house.ask("POST", path, json={"prompt": "A fox"}, headers=headers)

        assert (status, answer["error"]["type"], answer["error"]["code"]) == (
            401,
            "authentication_error",
            "unauthorized",
        )
        assert "WWW-Authenticate" in answered
