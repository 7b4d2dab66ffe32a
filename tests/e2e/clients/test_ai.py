"""The AI SDK makes and edits pictures here, by its provider for OpenAI and by the one for what is compatible with it.

Both are used as they are published (``tests/clients``). The former reads ``b64_json`` alone, the latter ``url`` too.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client import MAJORS, Client, Outcome
from tests.clients.files import MASK, ONE, PNG, TWO, given
from tests.clients.house import ADMIN, PICTURE, SLASHED, House
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.faults import LostAnswer
from tests.infra.servers.vendor import Say

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]  # the first test waits for what all of them share

EDITS = "/v1/images/edits"
GENERATIONS = "/v1/images/generations"


@pytest.fixture(params=["openai", "compatible"])
def provider(request: pytest.FixtureRequest) -> str:
    """By which the SDK speaks to the server."""
    return str(request.param)


def poster(ai: Client, provider: str, house: House, *settings: dict[str, Any], **fields: Any) -> Outcome:
    """A picture by the built-in provider."""
    given = {"at": house.at, "key": ADMIN, "model": "builtin-poster", "prompt": "A fox", "size": "128x96", **fields}
    return ai.call(provider, *settings, **given)


def contents(done: Outcome) -> list[bytes]:
    """What the client was given."""
    assert done.error is None, done.error
    return [base64.b64decode(picture["base64"]) for picture in done.value["images"]]


def test_it_is_the_client_that_is_meant(ai: Client) -> None:
    assert ai.version.partition(".")[0] == MAJORS["ai"]


def test_a_picture(ai: Client, provider: str, house: House) -> None:
    done = poster(ai, provider, house)

    (content,) = contents(done)
    assert content.startswith(PNG)
    assert done.exchanges[0].json
    assert (done.statuses, done.value["warnings"]) == ([200], [])


def test_three_pictures(ai: Client, provider: str, house: House) -> None:
    """The provider for OpenAI asks for each by itself when it does not know the model."""
    done = poster(ai, provider, house, n=3)

    assert all(content.startswith(PNG) for content in contents(done))
    assert len(contents(done)) == 3
    assert done.statuses == ([200] * 3 if provider == "openai" else [200])


def test_a_picture_of_another_type(ai: Client, provider: str, house: House) -> None:
    name = "outputFormat" if provider == "openai" else "output_format"
    done = poster(ai, provider, house, extra={name: "webp"})

    assert [content[8:12] for content in contents(done)] == [b"WEBP"]
    assert [picture["media_type"] for picture in done.value["images"]] == ["image/webp"]


def test_a_picture_by_its_url(ai: Client, house: House) -> None:
    """The provider for OpenAI has no such option. It is fetched with the caller's key, which is not needed."""
    done = poster(ai, "compatible", house, extra={"response_format": "url"})

    (content,) = contents(done)
    assert content.startswith(PNG)
    assert done.statuses == [200, 200]


def test_a_large_picture(ai: Client, provider: str, house: House) -> None:
    """Larger than what is answered in JSON to those who do not say how: one says so, the other follows the link."""
    content = PNG + bytes(5 << 20)
    house.vendor.on("POST", GENERATIONS, Say({"data": [{"b64_json": base64.b64encode(content).decode()}]}))
    done = poster(ai, provider, house, model="m")

    assert contents(done) == [content]
    assert done.statuses == ([200] if provider == "openai" else [200, 200])


@pytest.mark.parametrize("base", ["/v1/", "//v1//", "", "/openai/v1", "/v1/openai/deployments/builtin-poster"])
def test_a_base_url_is_written_in_many_ways(ai: Client, provider: str, house: House, base: str) -> None:
    assert len(contents(poster(ai, provider, house, at=f"{house.server.url}{base}"))) == 1


def test_a_query_of_its_own_and_empty_options(ai: Client, provider: str, house: House) -> None:
    settings = {} if provider == "openai" else {"queryParams": {"api-version": "preview"}}
    done = poster(ai, provider, house, settings, extra={"user": ""})

    assert len(contents(done)) == 1
    assert done.exchanges[0].query == ("" if provider == "openai" else "?api-version=preview")


def test_a_model_with_a_slash(ai: Client, provider: str, house: House) -> None:
    house.vendor.on("POST", GENERATIONS, PICTURE)
    prompt = house.prompt()

    assert len(contents(poster(ai, provider, house, model=SLASHED, prompt=prompt))) == 1
    (asked,) = house.asked(prompt)
    assert asked["model"] == SLASHED


@pytest.mark.parametrize("way", ["file", "bytes", "bytesio"])
def test_one_picture_is_edited(ai: Client, provider: str, house: House, tmp_path: Path, way: str) -> None:
    house.vendor.on("POST", EDITS, PICTURE)
    words = house.prompt()
    prompt = {"images": [given(ONE, way, tmp_path)], "text": words}
    done = poster(ai, provider, house, model="m", prompt=prompt, size="1024x1024")

    assert len(contents(done)) == 1
    assert done.exchanges[0].form
    asked = house.vendor.calls("POST", EDITS)[-1].form
    assert (asked["image"], asked["prompt"], asked["size"]) == ([ONE], [words.encode()], [b"1024x1024"])


def test_several_pictures_are_edited_behind_a_mask(ai: Client, provider: str, house: House, tmp_path: Path) -> None:
    house.vendor.on("POST", EDITS, PICTURE)
    images = [given(ONE, "bytes", tmp_path), given(TWO, "file", tmp_path)]
    prompt = {"images": images, "mask": given(MASK, "bytes", tmp_path), "text": "A fox"}
    done = poster(ai, provider, house, model="m", prompt=prompt, n=1)

    assert len(contents(done)) == 1
    asked = house.vendor.calls("POST", EDITS)[-1].form
    assert (asked["image[]"], asked["mask"]) == ([ONE, TWO], [MASK])


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"key": "sk-wrong"}, 401, "unauthorized", None),
        ({"model": "dall-e-9"}, 400, "invalid_request", "model"),
        ({"prompt": "A" * 120_000}, 413, "too_large", None),
    ],
)
def test_an_error_says_what_and_where(
    ai: Client, provider: str, house: House, fields: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    done = poster(ai, provider, house, **fields)

    raised = done.raised
    assert (raised.name, raised.status, raised.code, raised.param) == ("APICallError", status, code, param)
    assert raised.request_id == done.exchanges[-1].answer["x-request-id"]
    assert done.statuses == [status]


def test_what_a_vendor_refuses(ai: Client, provider: str, house: House) -> None:
    refusal = Say({"error": {"message": "not that", "code": "moderation_blocked"}}, 400)
    house.vendor.on("POST", GENERATIONS, refusal)
    done = poster(ai, provider, house, model="m")

    assert (done.raised.status, done.raised.code, done.statuses) == (400, "content_refused", [400])
    assert "not that" in done.raised.message


def test_an_answer_that_was_lost_is_paid_once(ai: Client, provider: str, house: House) -> None:
    """The client repeats its POST by itself and says nothing of it: the caller names the wish."""
    prompt = house.prompt()
    house.vendor.on("POST", GENERATIONS, PICTURE)
    with FaultProxyThread("127.0.0.1", house.server.port) as proxy:
        proxy.add(LostAnswer(), "POST", times=1)
        headers = {"Idempotency-Key": prompt}
        done = poster(ai, provider, house, at=f"{proxy.url}/v1", model="m", prompt=prompt, headers=headers)

    assert len(contents(done)) == 1
    assert done.statuses == [0, 200]
    assert len(house.asked(prompt)) == 1


def test_what_may_have_been_paid_is_not_asked_for_again(ai: Client, provider: str, house: House) -> None:
    """The client repeats after any 502, also where it is told not to."""
    model = f"lost-{provider}"
    house.vendor.on("POST", f"/{model}{GENERATIONS}", Say(lost=True))
    prompt = house.prompt()
    headers = {"Idempotency-Key": prompt}
    done = poster(ai, provider, house, model=model, prompt=prompt, headers=headers, retries=1)

    assert (done.raised.code, done.statuses) == ("outcome_unknown", [502, 502])
    assert len(house.asked(prompt)) == 1
