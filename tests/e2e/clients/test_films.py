"""Films: asked for, waited for, listed, read, deleted.

Clients that others wrote, unmodified, against the real server: two majors of ``openai`` for Python and the one for
JavaScript, each in a process of its own (``tests/clients``).
"""

from __future__ import annotations

import hashlib
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client import Client
from tests.clients.house import ADMIN, NEVER, House
from tests.infra.servers.vendor import Say

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]  # the first test waits for what all of them share


def test_a_film_is_asked_for_in_the_clients_own_way(client: Client, house: House) -> None:
    """JSON or a form, where numbers are text and levels are brackets: the vendor is asked the same."""
    prompt = house.job(NEVER).prompt
    nothing = {} if client.name == "node" else {"negative_prompt": None}  # that client cannot write null in a form
    extra = {"seed": 7, "camera": {"a": "b", "l": ["1", "2"]}, **nothing}
    film = client.call(
        "videos.create", at=house.at, key=ADMIN, model="m", prompt=prompt, seconds="4", size="320x180", extra=extra
    )

    assert film.error is None
    assert (film.exchanges[0].json, film.exchanges[0].form) == (client.name == "openai2", client.name != "openai2")
    assert (film.value["object"], film.value["status"], film.value["progress"]) == ("video", "queued", 0)
    assert (film.value["seconds"], film.value["size"], film.value["model"]) == ("4", "320x180", "m")
    assert (film.value["prompt"], film.value["error"], film.value["completed_at"]) == (prompt, None, None)
    taken = house.until(film.value["id"], lambda _: bool(house.asked(prompt)))
    (asked,) = house.asked(prompt)
    assert (asked["seconds"], asked["size"], asked["seed"]) == ("4", "320x180", 7)
    assert (asked["camera"], "negative_prompt" in asked) == ({"a": "b", "l": ["1", "2"]}, False)
    client.call("videos.delete", taken["id"], at=house.at, key=ADMIN)


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
    house.until(first["id"], lambda film: film["status"] == "completed")
    after = house.job(NEVER, asked_at=f"/v1/videos/{job.id}/remix")
    done = client.call("videos.remix", first["id"], at=house.at, key=ADMIN, prompt=after.prompt).value

    assert (done["remixed_from_video_id"], done["prompt"], done["model"]) == (first["id"], after.prompt, "m")
    house.until(done["id"], lambda _: bool(house.asked(after.prompt)))
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


@pytest.mark.parametrize(("variant", "media_type"), [("thumbnail", "image/webp"), ("spritesheet", "image/jpeg")])
def test_a_picture_of_a_film(client: Client, house: House, tmp_path: Path, variant: str, media_type: str) -> None:
    film, path = house.film["video"], tmp_path / variant
    done = client.call("videos.download_content", film, at=house.at, key=ADMIN, take="file", to=path, variant=variant)

    assert done.exchanges[0].answer["content-type"] == media_type
    head = path.read_bytes()[:12]
    assert head[8:] == b"WEBP" if variant == "thumbnail" else head[:3] == b"\xff\xd8\xff"
    (listed,) = [each for each in house.ask("GET", f"/files/{house.film['id']}")["variants"] if each["name"] == variant]
    assert (listed["bytes"], listed["media_type"]) == (done.value["bytes"], media_type)


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
