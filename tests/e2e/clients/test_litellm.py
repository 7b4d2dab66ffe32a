"""LiteLLM makes and edits pictures and makes films here, as one of OpenAI's kind and as one of Azure's.

It is used as it is published (``tests/clients``). It reads ``url`` or ``b64_json``, whichever its caller wants.
"""

from __future__ import annotations

import base64
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client import MAJORS, Client, Outcome
from tests.clients.files import MASK, ONE, TWO, given
from tests.clients.house import ADMIN, NEVER, PICTURE, SLASHED, House
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.faults import LostAnswer
from tests.infra.servers.vendor import Say

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]  # the first test waits for what all of them share

EDITS = "/v1/images/edits"
GENERATIONS = "/v1/images/generations"
AZURE = {"api_version": "2025-04-01-preview"}


def poster(litellm: Client, house: House, **fields: Any) -> Outcome:
    """A picture by the built-in provider."""
    given = {"at": house.at, "key": ADMIN, "model": "openai/builtin-poster", "prompt": "A fox", "size": "128x96"}
    return litellm.call("image_generation", **{**given, **fields})


def edit(litellm: Client, house: House, **fields: Any) -> Outcome:
    """A picture that is edited by the vendor."""
    house.vendor.on("POST", EDITS, PICTURE)
    given = {"at": house.at, "key": ADMIN, "model": "openai/m", "prompt": "A fox"}
    return litellm.call("image_edit", **{**given, **fields})


def film(litellm: Client, house: House, call: str, **fields: Any) -> Outcome:
    return litellm.call(f"video_{call}", **{"at": house.at, "key": ADMIN, **fields})


def delete(house: House, made: Outcome) -> None:
    """Let a film that never ends be over."""
    house.ask("DELETE", f"/videos/{video_id(made)}")


def video_id(made: Outcome) -> str:
    """What the server calls the film; the client has a name of its own for it."""
    return made.exchanges[0].answer["x-mediagen-task"].replace("task_", "video_")


def test_it_is_the_client_that_is_meant(litellm: Client) -> None:
    assert litellm.version.partition(".")[0] == MAJORS["litellm"]


def test_two_pictures_both_ways(litellm: Client, house: House) -> None:
    done = poster(litellm, house, n=2)

    assert (done.error, done.statuses) == (None, [200])
    one, two = done.value["data"]
    assert one["b64_json"] != two["b64_json"]
    for picture in (one, two):
        with urllib.request.urlopen(picture["url"], timeout=10) as shown:
            assert shown.read() == base64.b64decode(picture["b64_json"])
    assert (done.value["size"], done.value["output_format"]) == ("128x96", "png")


@pytest.mark.parametrize("base", ["/v1/", "//v1//", "", "/openai/v1"])
def test_a_base_url_is_written_in_many_ways(litellm: Client, house: House, base: str) -> None:
    done = poster(litellm, house, at=f"{house.server.url}{base}")

    assert done.error is None
    assert len(done.value["data"]) == 1


@pytest.mark.parametrize("base", ["", "/", "/v1"])
@pytest.mark.parametrize("call", ["generate", "edit"])
def test_as_if_it_were_azure(litellm: Client, house: House, tmp_path: Path, base: str, call: str) -> None:
    """The key is in ``api-key``, the model in the path."""
    at = f"{house.server.url}{base}"
    if call == "generate":
        done = poster(litellm, house, at=at, model="azure/builtin-poster", **AZURE)
        deployment = "builtin-poster/images/generations"
    else:
        done = edit(litellm, house, at=at, model="azure/m", image=given(ONE, "bytes", tmp_path), **AZURE)
        deployment = "m/images/edits"

    assert done.error is None
    assert len(done.value["data"]) == 1
    assert done.exchanges[0].path.endswith(f"/openai/deployments/{deployment}")
    assert done.exchanges[0].headers["api-key"] == ADMIN


def test_a_model_with_a_slash(litellm: Client, house: House) -> None:
    house.vendor.on("POST", GENERATIONS, PICTURE)
    prompt = house.prompt()
    done = poster(litellm, house, model=f"openai/{SLASHED}", prompt=prompt)

    assert done.error is None
    assert [asked["model"] for asked in house.asked(prompt)] == [SLASHED]


@pytest.mark.parametrize("way", ["file", "bytes", "bytesio"])
def test_one_picture_is_edited(litellm: Client, house: House, tmp_path: Path, way: str) -> None:
    """A file is sent by the name of its path; what is not needed is sent empty."""
    done = edit(litellm, house, image=given(ONE, way, tmp_path), n=1, size="1024x1024", user="")

    assert done.error is None
    assert done.value["data"][0]["b64_json"]
    asked = house.vendor.calls("POST", EDITS)[-1].form
    assert (asked["image"], asked["size"]) == ([ONE], [b"1024x1024"])


def test_several_pictures_are_edited_behind_a_mask(litellm: Client, house: House, tmp_path: Path) -> None:
    images = [given(ONE, "file", tmp_path), given(TWO, "bytes", tmp_path)]
    done = edit(litellm, house, image=images, mask=given(MASK, "bytesio", tmp_path))

    assert done.error is None
    asked = house.vendor.calls("POST", EDITS)[-1].form
    assert (asked["image[]"], asked["mask"]) == ([ONE, TWO], [MASK])


# -- films


def test_a_film_from_beginning_to_end(litellm: Client, house: House) -> None:
    key = house.key()
    made = film(litellm, house, "generation", key=key, model="openai/builtin-clip", prompt="Waves", seconds="1")
    assert made.error is None
    assert (made.value["object"], made.value["seconds"], made.exchanges[0].form) == ("video", "1", True)
    end = time.monotonic() + 60
    while (now := film(litellm, house, "status", key=key, video_id=made.value["id"]).value)["status"] != "completed":
        assert now["status"] in {"queued", "in_progress"}, now
        assert time.monotonic() < end
        time.sleep(0.1)

    assert (now["progress"], now["model"], now["size"]) == (100, "builtin-clip", "1280x720")
    whole = film(litellm, house, "content", key=key, video_id=made.value["id"], take="bytes").value
    still = film(litellm, house, "content", key=key, video_id=made.value["id"], take="bytes", variant="thumbnail").value
    assert whole["bytes"] > still["bytes"] > 0


def test_a_list_of_films_is_read_on_after_its_last_one_was_deleted(litellm: Client, house: House) -> None:
    key = house.key()
    made = [
        film(litellm, house, "generation", key=key, model="openai/m", prompt=house.job(NEVER).prompt, size="1280x720")
        for _ in range(3)
    ]
    first = film(litellm, house, "list", key=key, limit=2, custom_llm_provider="openai").value
    delete(house, made[1])
    second = film(litellm, house, "list", key=key, limit=2, after=first["last_id"], custom_llm_provider="openai").value

    found = [each["id"] for each in (*first["data"], *second["data"])]
    assert len(set(found)) == len(found) == 3
    assert [first["has_more"], second["has_more"]] == [True, False]
    delete(house, made[0])
    delete(house, made[2])


@pytest.mark.parametrize("way", ["file", "bytes"])
def test_a_film_begins_with_a_file(litellm: Client, house: House, tmp_path: Path, way: str) -> None:
    prompt = house.job(NEVER).prompt
    reference = given(ONE, way, tmp_path)
    done = film(litellm, house, "generation", model="openai/m", prompt=prompt, input_reference=reference, user="")

    assert done.error is None
    assert done.exchanges[0].form
    house.until(video_id(done), lambda _: bool(house.asked(prompt)))
    delete(house, done)
    (asked,) = house.asked(prompt)
    assert base64.b64decode(asked["input_reference"]["image_url"].partition(",")[2]) == ONE


# -- errors


@pytest.mark.parametrize(
    ("fields", "name", "status"),
    [
        ({"key": "sk-wrong"}, "AuthenticationError", 401),
        ({"model": "openai/dall-e-9"}, "BadRequestError", 400),
        ({"size": "7x"}, "BadRequestError", 400),
    ],
)
def test_an_error_is_of_its_class(
    litellm: Client, house: House, tmp_path: Path, fields: dict[str, Any], name: str, status: int
) -> None:
    image = given(ONE, "bytes", tmp_path)
    for done in (poster(litellm, house, **fields), edit(litellm, house, image=image, **fields)):
        assert (done.raised.name, done.raised.status, done.statuses) == (name, status, [status])


def test_what_there_is_not(litellm: Client, house: House) -> None:
    done = film(litellm, house, "status", video_id=f"video_{'0' * 32}")

    assert (done.raised.name, done.raised.status) == ("NotFoundError", 404)
    assert "there is no video" in done.raised.message


def test_a_vendor_that_is_busy_for_long(litellm: Client, house: House) -> None:
    busy = Say({"error": {"message": "slow"}}, 429, {"Retry-After": "900"})
    house.vendor.on("POST", f"/busy-litellm{GENERATIONS}", busy)
    done = poster(litellm, house, model="openai/busy-litellm")

    assert (done.raised.name, done.raised.status) == ("RateLimitError", 429)
    assert len(house.vendor.calls("POST", "/busy-litellm/.*")) == 1


def test_an_answer_that_was_lost_is_paid_once(litellm: Client, house: House) -> None:
    """``image_generation`` repeats its POST by itself, and says so."""
    prompt = house.prompt()
    house.vendor.on("POST", GENERATIONS, PICTURE)
    with FaultProxyThread("127.0.0.1", house.server.port) as proxy:
        proxy.add(LostAnswer(), "POST", times=1)
        done = poster(litellm, house, at=f"{proxy.url}/v1", key=house.key(), model="openai/m", prompt=prompt)

    assert done.error is None
    assert done.statuses == [0, 200]
    assert len(house.asked(prompt)) == 1
