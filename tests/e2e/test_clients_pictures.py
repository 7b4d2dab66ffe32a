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

import pytest

from mediagen.events.signing import new_secret
from tests.clients.client import MAJORS, Client, Outcome
from tests.clients.house import ADMIN, PICTURE, PNG, SECRETS, House, poster
from tests.infra.receiver import Receiver
from tests.infra.vendor import Say

pytestmark = pytest.mark.e2e


def test_it_is_the_client_that_is_meant(client: Client) -> None:
    assert client.version.partition(".")[0] == MAJORS[client.name]


def test_models(client: Client, house: House) -> None:
    listed = client.call("models.list", at=house.at, key=ADMIN, take="items").value
    one = client.call("models.retrieve", "m", at=house.at, key=ADMIN).value

    assert [model["id"] for model in listed] == ["m", "builtin-poster", "builtin-clip"]
    assert (one["id"], one["owned_by"]) == ("m", "paid")
    assert listed[1]["generative"] is False  # what the client does not know is kept


def test_three_pictures_by_url(client: Client, house: House) -> None:
    done = poster(client, house, prompt="A fox", n=3)

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


async def test_what_a_webhook_is_told_is_verified(client: Client, house: House) -> None:
    async with Receiver() as receiver:
        hook = {"webhook_url": receiver.url()}
        await asyncio.to_thread(poster, client, house, prompt="A fox", extra=hook)
        await receiver.reaches(lambda: bool(receiver.events))
    (event,) = receiver.events
    headers = {name: event.headers[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}

    def unwrapped(body: str, headers: dict[str, str], secret: str) -> Outcome:
        return client.call("webhooks.unwrap", body, headers, secret, at=house.at, key=ADMIN)

    def stale(seconds: float) -> dict[str, str]:
        at = str(int(time.time() - seconds))
        signed = f"{headers['webhook-id']}.{at}.".encode() + event.body
        digest = hmac.digest(base64.b64decode(SECRETS[0].removeprefix("whsec_")), signed, "sha256")
        signature = f"v1,{base64.b64encode(digest).decode()}"
        return {**headers, "webhook-timestamp": at, "webhook-signature": signature}

    body = event.body.decode()
    for secret in SECRETS:  # also by those who have not heard of the new one
        value = unwrapped(body, headers, secret).value
        assert (value["id"], value["type"], value["object"]) == (event.id, "task.completed", "event")
        assert value["data"]["result"]["files"]
    assert unwrapped(body, stale(200), SECRETS[0]).error is None
    for raised in (
        unwrapped(body.replace("A fox", "A hen"), headers, SECRETS[0]).raised,
        unwrapped(body, headers, new_secret()).raised,
        unwrapped(body, {**headers, "webhook-id": "evt_0"}, SECRETS[0]).raised,
        unwrapped(body, stale(400), SECRETS[0]).raised,
        unwrapped(body, stale(-400), SECRETS[0]).raised,
    ):
        assert raised.name == "InvalidWebhookSignatureError"
