"""Models, pictures, and what a webhook is told.

Clients that others wrote, unmodified, against the real server: two majors of ``openai`` for Python and the one for
JavaScript, each in a process of its own (``tests/clients``).
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mediagen.events.webhooks.signing import generate_secret
from tests.clients.client import MAJORS, Client, Outcome
from tests.clients.files import PNG
from tests.clients.house import ADMIN, PICTURE, SECRETS, SLASHED, House, poster
from tests.infra.servers.receiver import Event, Receiver
from tests.infra.servers.vendor import Say

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]  # the first test waits for what all of them share


def test_it_is_the_client_that_is_meant(client: Client) -> None:
    assert client.version.partition(".")[0] == MAJORS[client.name]


def test_models(client: Client, house: House) -> None:
    listed = client.call("models.list", at=house.at, key=ADMIN, take="items").value
    one = client.call("models.retrieve", "m", at=house.at, key=ADMIN).value
    slashed = client.call("models.retrieve", SLASHED, at=house.at, key=ADMIN).value

    assert slashed["id"] == SLASHED
    assert [model["id"] for model in listed][:2] == ["m", "gpt"]
    assert [model["id"] for model in listed][-2:] == ["builtin-poster", "builtin-clip"]
    assert (one["id"], one["owned_by"]) == ("m", "paid")
    assert listed[-1]["generative"] is False  # what the client does not know is kept


def test_a_base_url_without_its_version(client: Client, house: House) -> None:
    done = client.call("images.generate", at=house.server.url, key=ADMIN, model="builtin-poster", prompt="A fox")
    film = client.call("videos.retrieve", house.film["video"], at=house.server.url, key=ADMIN)
    unknown = client.call("models.retrieve", "dall-e-9", at=house.server.url, key=ADMIN)

    assert (done.exchanges[0].path, len(done.value["data"])) == ("/images/generations", 1)
    assert film.value["status"] == "completed"
    assert (unknown.raised.name, unknown.raised.code) == ("NotFoundError", "not_found")


def test_who_does_not_say_how_gets_both(client: Client, house: House) -> None:
    (picture,) = poster(client, house, prompt="A fox").value["data"]

    with urllib.request.urlopen(picture["url"], timeout=10) as shown:
        assert shown.read() == base64.b64decode(picture["b64_json"])


def test_three_pictures_by_url(client: Client, house: House) -> None:
    done = poster(client, house, prompt="A fox", n=3, response_format="url")

    assert done.exchanges[0].json
    assert [picture["b64_json"] for picture in done.value["data"]] == [None] * 3
    assert len({picture["url"] for picture in done.value["data"]}) == 3
    for picture in done.value["data"]:
        with urllib.request.urlopen(picture["url"], timeout=10) as shown:  # without a key
            assert shown.read(8) == PNG
    assert done.value["task_id"].startswith("task_")
    assert done.value["request_id"] == done.exchanges[0].answer["x-request-id"]


@pytest.mark.parametrize("key", [ADMIN, "sk-of-somebody-else"])
def test_a_link_is_followed_with_a_key_too(client: Client, house: House, key: str) -> None:
    """Some clients attach theirs to whatever they fetch."""
    url = poster(client, house, prompt="A fox").value["data"][0]["url"]
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=10) as shown:
        assert shown.read(8) == PNG


def test_a_picture_in_the_answer(client: Client, house: House) -> None:
    done = poster(client, house, prompt="A fox", response_format="b64_json", output_format="webp")

    (picture,) = done.value["data"]
    content = base64.b64decode(picture["b64_json"])
    assert (content[:4], content[8:12]) == (b"RIFF", b"WEBP")
    assert done.value["output_format"] in {"webp", None}


def test_null_is_as_if_it_were_not_there(client: Client, house: House) -> None:
    nulls = ("background", "moderation", "n", "output_compression", "output_format", "partial_images", "quality")
    more = ("response_format", "stream", "style", "user")
    done = poster(client, house, prompt="A fox", **dict.fromkeys((*nulls, *more)))

    assert done.error is None
    assert len(done.value["data"]) == 1


def test_fields_that_the_client_does_not_know_reach_the_vendor(client: Client, house: House) -> None:
    prompt = house.prompt()
    house.vendor.on("POST", "/v1/images/generations", PICTURE)
    extra = {"strength": 0.4, "svg": {"model": "a"}}
    client.call("images.generate", at=house.at, key=ADMIN, model="m", prompt=prompt, extra=extra)

    (asked,) = house.asked(prompt)
    assert (asked["strength"], asked["svg"]) == (0.4, {"model": "a"})


def test_a_stream_ends_with_the_picture(client: Client, house: House) -> None:
    """Heartbeats are comments: the client passes over them."""
    done = poster(client, house, prompt="A fox", stream=True, take="items")

    assert done.exchanges[0].answer["content-type"].startswith("text/event-stream")
    assert [event["type"] for event in done.value] == ["image_generation.completed"]
    assert base64.b64decode(done.value[0]["b64_json"]).startswith(PNG)


def test_an_error_in_a_stream_is_raised(client: Client, house: House) -> None:
    refusal = Say({"error": {"message": "not that", "code": "moderation_blocked"}}, 400)
    house.vendor.on("POST", "/v1/images/generations", refusal)
    done = client.call("images.generate", at=house.at, key=ADMIN, model="m", prompt="A fox", stream=True, take="items")

    assert done.statuses == [200]
    assert (done.raised.name, done.value) == ("APIError", None)
    assert "not that" in done.raised.message


async def told(call: Callable[..., Outcome], *args: Any, **fields: Any) -> Event:
    """What the webhook of what this call makes is told."""
    async with Receiver() as receiver:
        await asyncio.to_thread(call, *args, extra={"webhook_url": receiver.url()}, **fields)
        await receiver.reaches(lambda: bool(receiver.events))
    (event,) = receiver.events
    return event


def unwrapped(client: Client, house: House, event: Event, secret: str, **headers: str) -> Outcome:
    """The event as the client verifies it, with other headers of these names."""
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    given = {name: headers.get(name.replace("-", "_"), event.headers[name]) for name in names}
    return client.call("webhooks.unwrap", event.body.decode(), given, secret, at=house.at, key=ADMIN)


async def test_what_a_webhook_is_told_is_verified(client: Client, house: House) -> None:
    event = await told(poster, client, house, prompt="A fox")

    def stale(seconds: float) -> dict[str, str]:
        at = str(int(time.time() - seconds))
        digest = hmac.digest(
            base64.b64decode(SECRETS[0].removeprefix("whsec_")), f"{event.id}.{at}.".encode() + event.body, "sha256"
        )
        return {"webhook_timestamp": at, "webhook_signature": f"v1,{base64.b64encode(digest).decode()}"}

    for secret in SECRETS:  # also by those who have not heard of the new one
        value = unwrapped(client, house, event, secret).value
        assert (value["id"], value["type"], value["object"]) == (event.id, "task.completed", "event")
        assert value["data"]["result"]["files"]
    assert unwrapped(client, house, event, SECRETS[0], **stale(200)).error is None
    tampered = replace(event, body=event.body.replace(b"A fox", b"A hen"))
    for raised in (
        unwrapped(client, house, tampered, SECRETS[0]).raised,
        unwrapped(client, house, event, generate_secret()).raised,
        unwrapped(client, house, event, SECRETS[0], webhook_id="evt_0").raised,
        unwrapped(client, house, event, SECRETS[0], **stale(400)).raised,
        unwrapped(client, house, event, SECRETS[0], **stale(-400)).raised,
    ):
        assert raised.name == "InvalidWebhookSignatureError"


async def test_the_webhook_of_a_film_speaks_of_it_as_the_client_does(client: Client, house: House) -> None:
    refused = {"status": "failed", "error": {"code": "moderation_blocked", "message": "not that"}}
    prompt = house.job(refused).prompt
    event = await told(client.call, "videos.create", at=house.at, key=ADMIN, model="m", prompt=prompt)
    value = unwrapped(client, house, event, SECRETS[0]).value
    film = client.call("videos.retrieve", value["data"]["id"], at=house.at, key=ADMIN).value

    assert (value["type"], value["object"]) == ("video.failed", "event")
    assert (film["prompt"], film["status"], film["error"]["code"]) == (prompt, "failed", "content_refused")
