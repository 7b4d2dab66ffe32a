"""Clients that others wrote, unmodified, against the real server: what they send is taken, what they read is there.

Two majors of ``openai`` for Python and the one for JavaScript, each in a process of its own (``tests/clients``). One
server serves all; films and pictures are the built-in provider's, or a vendor's whose answers are scripted.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mediagen.events.signing import new_secret
from tests.clients.client import MAJORS, NAMES, Client, Outcome
from tests.e2e.configuration import s3
from tests.infra.faultproxy import FaultProxyThread
from tests.infra.faults import LostAnswer
from tests.infra.leftovers import Shared
from tests.infra.process import need
from tests.infra.radosgw import RadosGW
from tests.infra.receiver import Receiver
from tests.infra.s3 import temporary_bucket
from tests.infra.server import Server
from tests.infra.vendor import Say, VendorServer

pytestmark = pytest.mark.e2e

T = TypeVar("T")

ADMIN = "sk-of-the-server"
PNG = b"\x89PNG\r\n\x1a\n"
PICTURE = Say({"created": 1, "data": [{"b64_json": base64.b64encode(PNG + bytes(100)).decode()}]})
NEVER = {"status": "in_progress", "progress": 10}
UNKNOWN = f"video_{'0' * 32}"
SECRETS = [new_secret(), new_secret()]
"""The new one and the old one."""


@dataclass(frozen=True)
class Job:
    """A film at the vendor, and the words by which it is asked for."""

    id: str
    prompt: str


@dataclass
class House:
    """The server, and the vendor behind its model ``m``."""

    server: Server
    vendor: VendorServer
    film: dict[str, Any] = field(default_factory=dict)
    """One that is done, and the admin's."""
    _count: Iterator[int] = field(default_factory=itertools.count)

    @property
    def at(self) -> str:
        return f"{self.server.url}/v1"

    def ask(self, method: str, path: str, document: Any = None) -> Any:
        """The JSON of a success, asked with the admin's key."""
        body = None if document is None else json.dumps(document).encode()
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.at}{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def key(self, *scopes: str) -> str:
        """A new key of an owner of its own, who has nothing yet."""
        wish = {"name": f"client-{next(self._count)}", **({"scopes": scopes} if scopes else {})}
        return str(self.ask("POST", "/keys", wish)["key"])

    def prompt(self) -> str:
        """Words by which a call to the vendor is known."""
        return f"A fox, number {next(self._count)}"

    def asked(self, prompt: str) -> list[Any]:
        """What the vendor was asked for with these words."""
        return [call.json for call in self.vendor.calls("POST") if call.json["prompt"] == prompt]

    def job(self, *states: dict[str, Any], asked_at: str = "/v1/videos") -> Job:
        """Let the vendor take the next film on, and say this of it, the last again and again."""
        job = Job(f"job_{next(self._count)}", self.prompt())
        headers = {"openai-poll-after-ms": "50"}
        self.vendor.on("POST", asked_at, Say({"id": job.id, "status": "queued"}))
        self.vendor.on("GET", f"/v1/videos/{job.id}", *(Say({"id": job.id, **state}, 200, headers) for state in states))
        self.vendor.on("DELETE", f"/v1/videos/{job.id}", Say({"id": job.id, "deleted": True}))
        return job


@contextmanager
def held(opened: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """What is opened on a loop, for longer than a test's own."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        value = runner.run(_entered(opened))
        try:
            yield value
        finally:
            runner.run(_left(opened))


async def _entered(opened: AbstractAsyncContextManager[T]) -> T:
    return await opened.__aenter__()


async def _left(opened: AbstractAsyncContextManager[T]) -> None:
    await opened.__aexit__(None, None, None)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, shared: Shared) -> Iterator[House]:
    need("ffmpeg")
    with VendorServer() as vendor:
        paid = {"type": "openai", "engine": "generic", "base_url": f"{vendor.url}/v1", "models": ["m"]}
        settings = {
            "auth": {"required": True, "admin_key": ADMIN},
            "providers": {"paid": paid},
            "server": {"max_json_bytes": 100_000},
            "webhooks": {"secret": " ".join(SECRETS)},
        }
        with held(Server(tmp_path_factory.mktemp("house"), settings)) as server:
            house = House(server, vendor)
            film = house.ask("POST", "/videos", {"model": "builtin-clip", "prompt": "Waves", "seconds": 1})
            while film["status"] in {"queued", "in_progress"}:
                time.sleep(0.05)
                film = house.ask("GET", f"/videos/{film['id']}")
            assert film["status"] == "completed", film
            house.film = house.ask("GET", f"/files/{film['file_id']}") | {"video": film["id"]}
            yield house


@pytest.fixture(scope="module", params=NAMES)
def client(request: pytest.FixtureRequest, shared: Shared) -> Iterator[Client]:
    with Client(request.param) as client:
        yield client


def test_it_is_the_client_that_is_meant(client: Client) -> None:
    assert client.version.partition(".")[0] == MAJORS[client.name]


def test_models(client: Client, house: House) -> None:
    listed = client.call("models.list", at=house.at, key=ADMIN, take="items").value
    one = client.call("models.retrieve", "m", at=house.at, key=ADMIN).value

    assert [model["id"] for model in listed] == ["m", "builtin-poster", "builtin-clip"]
    assert (one["id"], one["owned_by"]) == ("m", "paid")
    assert listed[1]["generative"] is False  # what the client does not know is kept


# -- pictures


def poster(client: Client, house: House, **fields: Any) -> Outcome:
    return client.call("images.generate", at=house.at, key=ADMIN, model="builtin-poster", size="128x96", **fields)


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


# -- films


def test_a_film_is_asked_for_in_the_clients_own_way(client: Client, house: House) -> None:
    """JSON or a form, where numbers are text and levels are brackets: the vendor is asked the same."""
    prompt = house.job(NEVER).prompt
    nothing = {} if client.name == "node" else {"negative_prompt": None}  # that client cannot write null in a form
    extra = {"seed": 7, "metadata": {"a": "b", "l": ["1", "2"]}, **nothing}
    film = client.call(
        "videos.create", at=house.at, key=ADMIN, model="m", prompt=prompt, seconds="4", size="320x180", extra=extra
    )

    assert film.error is None
    assert (film.exchanges[0].json, film.exchanges[0].form) == (client.name == "openai2", client.name != "openai2")
    assert (film.value["object"], film.value["status"], film.value["progress"]) == ("video", "queued", 0)
    assert (film.value["seconds"], film.value["size"], film.value["model"]) == ("4", "320x180", "m")
    assert (film.value["prompt"], film.value["error"], film.value["completed_at"]) == (prompt, None, None)
    taken = until(house, film.value["id"], lambda _: bool(house.asked(prompt)))
    (asked,) = house.asked(prompt)
    assert (asked["seconds"], asked["size"], asked["seed"]) == ("4", "320x180", 7)
    assert (asked["metadata"], "negative_prompt" in asked) == ({"a": "b", "l": ["1", "2"]}, False)
    client.call("videos.delete", taken["id"], at=house.at, key=ADMIN)


def until(house: House, video_id: str, holds: Any) -> dict[str, Any]:
    """The film once that is true of it."""
    end = time.monotonic() + 30
    while not holds(film := house.ask("GET", f"/videos/{video_id}")):
        assert time.monotonic() < end, film
        time.sleep(0.02)
    return dict(film)


def test_a_film_is_waited_for_as_long_as_the_server_says(client: Client, house: House) -> None:
    fields: dict[str, Any] = {"model": "builtin-clip", "prompt": "Waves", "seconds": "1", "size": "160x96"}
    done = client.call("videos.create_and_poll", at=house.at, key=ADMIN, **fields)

    film = done.value
    assert (film["status"], film["progress"], film["seconds"], film["size"]) == ("completed", 100, "1", "160x96")
    assert film["completed_at"] >= film["created_at"]
    told = [exchange.answer.get("openai-poll-after-ms") for exchange in done.exchanges]
    assert told[-1] is None
    assert done.slept
    # the Python helper keeps to the first that it was told
    expected = [told[1]] * len(told[1:-1]) if client.name != "node" else told[1:-1]
    assert done.slept == [int(text or "") / 1000 for text in expected]


@pytest.mark.parametrize(
    ("ends", "code", "state"),
    [
        ("failed", "content_refused", "failed"),
        ("cancelled", "cancelled", "cancelled"),
        ("late", "timeout", "timed_out"),
    ],
)
def test_waiting_ends_with_a_film_that_will_not_be(
    client: Client, house: House, ends: str, code: str, state: str
) -> None:
    refused = {"status": "failed", "error": {"code": "moderation_blocked", "message": "not that"}}
    job = house.job(NEVER, refused) if ends == "failed" else house.job(NEVER)
    extra = {"timeout_seconds": 0.5} if ends == "late" else {}
    film = client.call("videos.create", at=house.at, key=ADMIN, model="m", prompt=job.prompt, extra=extra).value
    if ends == "cancelled":
        house.ask("POST", f"/videos/{film['id']}/cancel")
    done = client.call("videos.poll", film["id"], at=house.at, key=ADMIN)

    assert (done.value["status"], done.value["task_status"]) == ("failed", state)
    assert done.value["error"]["code"] == code
    assert done.value["error"]["message"]


def test_a_list_goes_over_its_pages(client: Client, house: House) -> None:
    key = house.key()
    made = []
    for _ in range(3):
        film = client.call("videos.create", at=house.at, key=key, model="m", prompt=house.job(NEVER).prompt)
        made.append(film.value["id"])
    listed = client.call("videos.list", at=house.at, key=key, limit=2, order="asc", take="items")
    newest = client.call("videos.list", at=house.at, key=key, limit=1, after=made[1], order="desc").value
    for video_id in made:
        client.call("videos.delete", video_id, at=house.at, key=key)

    assert [film["id"] for film in listed.value] == made
    assert len(listed.exchanges) == 2
    assert newest["data"][0]["id"] == made[0]


def test_a_deleted_film_is_gone(client: Client, house: House) -> None:
    film = client.call("videos.create", at=house.at, key=ADMIN, model="m", prompt=house.job(NEVER).prompt).value
    deleted = client.call("videos.delete", film["id"], at=house.at, key=ADMIN).value
    looked = client.call("videos.retrieve", film["id"], at=house.at, key=ADMIN)
    read = client.call("videos.download_content", film["id"], at=house.at, key=ADMIN, take="bytes")

    assert {name: deleted[name] for name in ("id", "object", "deleted")} == {
        "id": film["id"],
        "object": "video.deleted",
        "deleted": True,
    }
    assert (looked.raised.name, looked.raised.code) == ("NotFoundError", "not_found")
    assert (read.raised.name, read.statuses) == ("NotFoundError", [404])


def test_a_film_after_another(client: Client, house: House) -> None:
    job = house.job({"status": "completed"})
    with urllib.request.urlopen(house.ask("GET", f"/files/{house.film['id']}")["url"], timeout=10) as shown:
        content = Say(shown.read(), media_type="video/mp4")
    house.vendor.on("GET", f"/v1/videos/{job.id}/content", content)
    first = client.call("videos.create", at=house.at, key=ADMIN, model="m", prompt=job.prompt).value
    until(house, first["id"], lambda film: film["status"] == "completed")
    after = house.job(NEVER, asked_at=f"/v1/videos/{job.id}/remix")
    done = client.call("videos.remix", first["id"], at=house.at, key=ADMIN, prompt=after.prompt).value

    assert (done["remixed_from_video_id"], done["prompt"], done["model"]) == (first["id"], after.prompt, "m")
    until(house, done["id"], lambda _: bool(house.asked(after.prompt)))
    client.call("videos.delete", done["id"], at=house.at, key=ADMIN)


def test_a_film_into_memory(client: Client, house: House) -> None:
    done = client.call("videos.download_content", house.film["video"], at=house.at, key=ADMIN, take="bytes")

    assert (done.value["bytes"], done.value["sha256"]) == (house.film["bytes"], house.film["sha256"])
    answer = done.exchanges[0].answer
    assert (answer["content-type"], answer["accept-ranges"]) == ("video/mp4", "bytes")
    assert "content-encoding" not in answer


def test_a_film_into_a_file(client: Client, house: House, tmp_path: Path) -> None:
    done = client.call(
        "videos.download_content", house.film["video"], at=house.at, key=ADMIN, take="file", to=tmp_path / "film.mp4"
    )

    assert done.value["sha256"] == house.film["sha256"]


def test_a_part_of_a_film(client: Client, house: House) -> None:
    headers = {"Range": "bytes=4-11"}
    done = client.call(
        "videos.download_content", house.film["video"], at=house.at, key=ADMIN, take="bytes", headers=headers
    )

    assert (done.statuses, done.value["bytes"]) == ([206], 8)
    assert done.exchanges[0].answer["content-range"] == f"bytes 4-11/{house.film['bytes']}"
    assert done.value["sha256"] == hashlib.sha256(b"ftypisom").hexdigest()


def test_a_film_that_is_not_there_yet_is_asked_for_once(client: Client, house: House) -> None:
    film = client.call("videos.create", at=house.at, key=ADMIN, model="m", prompt=house.job(NEVER).prompt).value
    done = client.call("videos.download_content", film["id"], at=house.at, key=ADMIN, take="bytes")
    client.call("videos.delete", film["id"], at=house.at, key=ADMIN)

    assert (done.raised.name, done.raised.code, done.statuses) == ("NotFoundError", "not_found", [404])


def test_of_a_film_there_is_no_other_variant(client: Client, house: House) -> None:
    done = client.call(
        "videos.download_content", house.film["video"], at=house.at, key=ADMIN, take="bytes", variant="spritesheet"
    )

    assert (done.raised.name, done.raised.param) == ("NotFoundError", "variant")


# -- a bucket


@pytest.fixture(scope="module")
def bucket_house(tmp_path_factory: pytest.TempPathFactory, radosgw: RadosGW) -> Iterator[House]:
    """A server whose files are in a bucket, on another port: redirects go to another origin."""
    need("ffmpeg")
    with (
        VendorServer() as vendor,
        held(temporary_bucket(radosgw)) as bucket,
        held(Server(tmp_path_factory.mktemp("bucket"), s3(bucket))) as server,
    ):
        yield House(server, vendor)


def test_a_film_in_a_bucket_is_read_from_there(client: Client, bucket_house: House, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"model": "builtin-clip", "prompt": "Waves", "seconds": "1", "size": "160x96"}
    film = client.call("videos.create_and_poll", at=bucket_house.at, key=ADMIN, **fields).value
    known = bucket_house.ask("GET", f"/files/{film['file_id']}")

    read = client.call("videos.download_content", film["id"], at=bucket_house.at, key=ADMIN, take="bytes")
    path = tmp_path / "film.mp4"
    saved = client.call("videos.download_content", film["id"], at=bucket_house.at, key=ADMIN, take="file", to=path)

    assert read.value == saved.value
    assert (read.value["bytes"], read.value["sha256"]) == (known["bytes"], known["sha256"])
    if client.name == "node":
        assert read.exchanges[0].redirected
    else:
        assert read.statuses == [302, 200]
        assert "authorization" in read.exchanges[0].headers
        assert "authorization" not in read.exchanges[1].headers  # the store would refuse it


# -- errors


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


VENDOR: dict[str, Any] = {"model": "m", "prompt": "A fox"}
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
    "vendor busy": Fault(
        "RateLimitError", 429, "provider_rate_limited", Say({"error": {"message": "slow"}}, 429), calls=2
    ),
    "vendor sick": Fault(
        "InternalServerError", 502, "provider_error", Say({"error": {"message": "sick"}}, 503), calls=2
    ),
    "vendor lost": Fault("InternalServerError", 502, "outcome_unknown", Say(lost=True)),
    "vendor's key": Fault("InternalServerError", 502, "provider_error", Say({"error": {"message": "key"}}, 401)),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_an_error_is_of_its_class_and_says_what_and_where(client: Client, house: House, fault: Fault) -> None:
    if fault.say is not None:
        house.vendor.on("POST", "/v1/images/generations", fault.say)
    fields = fault.fields or VENDOR
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


def test_what_is_busy_is_asked_again_when_it_says(client: Client, house: House) -> None:
    busy = Say({"error": {"message": "slow"}}, 429, {"Retry-After": "1"})
    house.vendor.on("POST", "/v1/images/generations", busy, PICTURE)
    prompt = house.prompt()
    done = client.call("images.generate", at=house.at, key=ADMIN, model="m", prompt=prompt)

    assert done.statuses == [429, 200]
    assert done.exchanges[0].answer["retry-after"] == "1"
    assert client.name == "node" or done.slept == [1.0]
    assert len(done.value["data"]) == 1
    assert len(house.asked(prompt)) == 2


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
        until(house, done.value["id"], lambda _: bool(house.asked(prompt)))
        client.call("videos.delete", done.value["id"], at=house.at, key=key)
    assert len(house.asked(prompt)) == 1


# -- webhooks


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
