"""Errors are of their class; what may be repeated is, and what may not is not.

Clients that others wrote, unmodified, against the real server: two majors of ``openai`` for Python and the one for
JavaScript, each in a process of its own (``tests/clients``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.clients.client import Client
from tests.clients.house import ADMIN, NEVER, PICTURE, House, poster
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.faults import LostAnswer
from tests.infra.servers.vendor import Say

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]  # the first test waits for what all of them share


UNKNOWN = f"video_{'0' * 32}"


@dataclass(frozen=True)
class Fault:
    """A call that must fail: what the vendor says, what is asked, what the client raises."""

    name: str
    status: int
    code: str
    say: Say | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    param: str | None = None
    calls: int = 1
    """Of the client, with one retry allowed."""
    trouble: str | None = None
    """Which account at the vendor is asked."""


POSTER: dict[str, Any] = {"model": "builtin-poster", "prompt": "A fox"}
FAULTS = {
    "wrong size": Fault("BadRequestError", 400, "invalid_request", None, {**POSTER, "size": "7x"}, "size"),
    "wrong type": Fault("BadRequestError", 400, "invalid_request", None, {**POSTER, "n": "many"}, "n"),
    "no such model": Fault("BadRequestError", 400, "invalid_request", None, {**POSTER, "model": "dall-e-9"}, "model"),
    "refused": Fault(
        "BadRequestError", 400, "content_refused", Say({"error": {"message": "no", "code": "moderation_blocked"}}, 400)
    ),
    "too large": Fault("APIStatusError", 413, "too_large", None, {**POSTER, "prompt": "A" * 120_000}),
    "encoded": Fault(
        "APIStatusError", 415, "unsupported_media", None, {**POSTER, "headers": {"Content-Encoding": "gzip"}}
    ),
    "vendor's key": Fault(
        "InternalServerError", 502, "provider_error", Say({"error": {"message": "key"}}, 401), trouble="key"
    ),
    "vendor lost": Fault("InternalServerError", 502, "outcome_unknown", Say(lost=True), trouble="lost"),
    "vendor sick": Fault(
        "InternalServerError", 502, "provider_error", Say({"error": {"message": "sick"}}, 500), calls=2, trouble="sick"
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_error_is_of_its_class_and_says_what_and_where(client: Client, house: House, fault: Fault) -> None:
    account = "" if fault.trouble is None else f"/{fault.trouble}-{client.name}"
    if fault.say is not None:
        house.vendor.on("POST", f"{account}/v1/images/generations", fault.say)
    fields = fault.fields or {"model": account.removeprefix("/") or "m", "prompt": "A fox"}
    done = client.call("images.generate", at=house.at, key=ADMIN, retries=1, **fields)

    name = "APIError" if (client.name, fault.name) == ("node", "APIStatusError") else fault.name
    assert (done.raised.name, done.raised.status, done.raised.code) == (name, fault.status, fault.code)
    assert done.raised.param == fault.param
    assert done.raised.request_id == done.exchanges[-1].answer["x-request-id"]
    assert done.statuses == [fault.status] * fault.calls
    if fault.status >= 500 and fault.calls == 1:
        assert done.exchanges[0].answer["x-should-retry"] == "false"


def test_a_wrong_key(client: Client, house: House) -> None:
    done = client.call("models.list", at=house.at, key="sk-wrong", take="items")

    assert (done.raised.name, done.raised.code, done.raised.type) == (
        "AuthenticationError",
        "unauthorized",
        "authentication_error",
    )


def test_a_key_that_may_only_look(client: Client, house: House) -> None:
    done = client.call("images.generate", at=house.at, key=house.key("read"), **POSTER)

    assert (done.raised.name, done.raised.status, done.raised.code) == ("PermissionDeniedError", 403, "forbidden")


def test_what_there_is_not(client: Client, house: House) -> None:
    film = client.call("videos.retrieve", UNKNOWN, at=house.at, key=ADMIN)
    model = client.call("models.retrieve", "dall-e-9", at=house.at, key=ADMIN)
    strangers = client.call("videos.retrieve", house.film["video"], at=house.at, key=house.key())

    assert (film.raised.name, film.raised.code, film.raised.param) == ("NotFoundError", "not_found", "id")
    assert (model.raised.name, model.raised.code) == ("NotFoundError", "not_found")
    assert (strangers.raised.name, strangers.raised.code) == ("NotFoundError", "not_found")


def test_what_cannot_be_is_not_asked_for_again(client: Client, house: House) -> None:
    done = client.call("post", f"/videos/{house.film['video']}/cancel", at=house.at, key=ADMIN)

    assert (done.raised.name, done.raised.status, done.raised.code) == ("ConflictError", 409, "conflict")
    assert done.statuses == [409]


def test_another_wish_under_the_same_key(client: Client, house: House) -> None:
    headers = {"Idempotency-Key": f"k-{client.name}"}
    first = poster(client, house, prompt="A fox", headers=headers)
    again = poster(client, house, prompt="A fox", headers=headers)
    other = poster(client, house, prompt="A hare", headers=headers)

    assert first.value["task_id"] == again.value["task_id"]
    assert (other.raised.name, other.raised.code) == ("UnprocessableEntityError", "idempotency_mismatch")
    assert other.statuses == [422]


def test_a_vendor_that_is_busy_for_long(client: Client, house: House) -> None:
    """Short pauses the server waits for; a long one is told."""
    busy = Say({"error": {"message": "slow"}}, 429, {"Retry-After": "900"})
    house.vendor.on("POST", f"/busy-{client.name}/v1/images/generations", busy)
    done = client.call("images.generate", at=house.at, key=ADMIN, model=f"busy-{client.name}", prompt="A fox")

    assert (done.raised.name, done.raised.code) == ("RateLimitError", "provider_rate_limited")
    assert 890 < int(done.exchanges[0].answer["retry-after"]) <= 900
    assert done.statuses == [429]  # the client for JavaScript would wait for that long
    assert len(house.vendor.calls("POST", f"/busy-{client.name}/.*")) == 1


def test_what_is_busy_is_asked_again_when_it_says(client: Client, paced: House) -> None:
    key = paced.key()
    looked = client.call("models.list", at=paced.at, key=key, take="items", retries=0)
    for _ in range(int(looked.exchanges[0].answer["x-ratelimit-remaining-requests"])):
        looked = client.call("models.list", at=paced.at, key=key, take="items", retries=0)
    done = client.call("models.list", at=paced.at, key=key, take="items")

    assert done.value
    assert done.statuses == [429, 200]
    seconds = int(done.exchanges[0].answer["retry-after"])
    assert 1 <= seconds <= 4
    assert client.name == "node" or done.slept == [seconds]


@pytest.mark.parametrize("call", ["images.generate", "videos.create"])
def test_an_answer_that_was_lost_is_paid_once(client: Client, house: House, call: str) -> None:
    """The client repeats its POST by itself, and says so in ``x-stainless-retry-count`` alone."""
    prompt = house.job(NEVER).prompt
    house.vendor.on("POST", "/v1/images/generations", PICTURE)
    key = house.key()
    with FaultProxyThread("127.0.0.1", house.server.port) as proxy:
        proxy.add(LostAnswer(), "POST", times=1)
        done = client.call(call, at=f"{proxy.url}/v1", key=key, model="m", prompt=prompt)

    assert [exchange.headers["x-stainless-retry-count"] for exchange in done.exchanges] == ["0", "1"]
    assert done.statuses == [0, 200]
    page = house.ask("GET", "/tasks")
    made = [task["id"] for task in page["data"] if task["request"]["prompt"] == prompt]
    assert made == [done.value["task_id"]]
    if call == "videos.create":
        house.until(done.value["id"], lambda _: bool(house.asked(prompt)))
        client.call("videos.delete", done.value["id"], at=house.at, key=key)
    assert len(house.asked(prompt)) == 1
