"""Whatever a provider answers: a clear error in the shape of the surface, no task that runs, nothing in the store."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.infra.servers.vendor import Asked, Say, VendorServer
from tests.infra.servers.vendors import VENDORS, Shop, film_of
from tests.web.conftest import House, Start

PICTURES: Final = ("pictures", "pictures-minimax", "pictures-gemini", "pictures-imagen")
MORE: Final = {
    "minimax": ["pictures-minimax=image-01"],
    "google": ["pictures-gemini=gemini-2.5-flash-image", "pictures-imagen=imagen-4.0-generate-001"],
}
KEY: Final = "sk-test-0123456789"


@pytest.fixture
def api() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.fixture
def shop(api: VendorServer) -> Shop:
    return Shop(api)


@pytest.fixture
async def house(start: Start, shop: Shop) -> House:
    """A server with a model of each kind at every vendor, room for all at once, and little patience."""
    providers = {
        name: {**each, "models": [*each["models"], *MORE.get(name, ())], "stall_seconds": 2.0, "unsettled_seconds": 5.0}
        for name, each in shop.settings().items()
        if "deaf" not in name
    }
    # an account for each model and case: one that refuses its key, or fails too often, is not asked for a while
    accounts = {
        f"{name}-{model.partition('=')[0]}-{number}": {**each, "models": [model]}
        for name, each in providers.items()
        for model in each["models"]
        for number in range(len(BAD) + len(NO_RESULT))
    }
    limits = {"requests_per_minute_per_ip": 0, "image_bytes": 1 << 20, "video_bytes": 1 << 20}
    return await start(
        real=True,
        providers=providers | accounts,
        fetch={"allow_cidrs": ["127.0.0.0/8"]},
        limits=limits,
        tasks={"lanes": {"video": 16, "image": 16}},
    )


def refused(status: int, message: str, code: str = "x", **error: Any) -> Say:
    return Say({"error": {"message": f"{message} {KEY}", "code": code, **error}}, status)


FAULT, UNKNOWN = (502, "provider_error"), (502, "outcome_unknown")
DEEP = "[" * 20_000 + "]" * 20_000
BAD: Final[dict[str, tuple[Say, tuple[int, str]]]] = {
    "a page": (Say("<!doctype html><p>welcome", media_type="text/html"), FAULT),
    "a page that is called JSON": (Say("<html>"), FAULT),
    "a page in a coding that nobody knows": (Say("x", headers={"Content-Encoding": "rot13"}), FAULT),
    "a coding that it does not have": (Say('{"data": []}', headers={"Content-Encoding": "gzip"}), UNKNOWN),
    "a fault in a coding that nobody knows": (Say("x", 500, {"Content-Encoding": "rot13"}), FAULT),
    "no answer": (Say(lost=True), UNKNOWN),
    "no answer in time": (Say(stall=0), UNKNOWN),
    "an answer that breaks off": (Say({"data": [{"b64_json": "A" * 9000}]}, cut=100), UNKNOWN),
    "an empty body": (Say(""), FAULT),
    "no content": (Say("", 204), FAULT),
    "half a string": (Say('{"data": [{"b64_json": "aGVs'), FAULT),
    "half an object": (Say('{"id": "v1", '), FAULT),
    "no UTF-8": (Say(b'{"id": "\xff\xfe"}'), FAULT),
    "too deep": (Say(f'{{"id": {DEEP}}}'), FAULT),
    "endless spaces": (Say("{", endless=b" " * 65536), FAULT),
    "an endless string": (Say('{"x": "', endless=b"A" * 65536), FAULT),
    "endless base64": (Say('{"data": [{"b64_json": "iVBORw0KGgoAAAANSUhEUgAA', endless=b"A" * 65536), FAULT),
    "an endless complaint": (Say("{", 400, endless=b" " * 65536), (400, "invalid_request")),
    "a deep complaint": (Say(DEEP, 500), FAULT),
    "a status that nobody knows": (refused(599, "odd"), FAULT),
    "a redirect": (Say("", 302, {"Location": "http://127.0.0.1:1/"}), FAULT),
    "a teapot": (Say("short and stout", 418, media_type="text/plain"), FAULT),
    "a fault": (refused(500, "sick"), FAULT),
    "a page of a gateway": (Say("<html>", 504, media_type="text/html"), UNKNOWN),
    "key refused": (refused(401, "wrong key"), FAULT),
    "no right": (refused(403, "not yours"), FAULT),
    "budget spent": (refused(429, "exceeded", "insufficient_quota"), FAULT),
    "payment required": (refused(402, "pay"), FAULT),
    "later": (Say({"error": {"message": "slow"}}, 429, {"Retry-After": "900"}), (429, "provider_rate_limited")),
    "content refused": (refused(400, "no", "content_policy_violation"), (400, "content_refused")),
    "unknown model": (refused(404, "no such model", "model_not_found"), (400, "invalid_request")),
    "unknown field": (refused(422, "no such field", "unknown", param="frobs"), (400, "invalid_request")),
    "size not taken": (refused(400, "no such size", "invalid_value", param="size"), (400, "invalid_request")),
}
"""What the call that begins paid work is answered, and the status and code that follow."""

NO_RESULT: Final = {"an empty object": "{}", "null": "null", "a list": "[]", "a number": "7", "text": '"x"'}
"""Answers that are JSON, and name neither a picture nor a job."""
PARAMS: Final = {"unknown model": "model", "unknown field": "frobs", "size not taken": "size"}


PICTURES_OF: Final = {"pictures-minimax": "minimax", "pictures-gemini": "google", "pictures-imagen": "google"}


def model_of(vendor: str, model: str, case: str) -> str:
    """The model by the account of that case."""
    return f"{vendor}-{model}-{[*BAD, *NO_RESULT].index(case)}/{model}"


def answers(api: VendorServer, cases: dict[str, Say]) -> None:
    """Every call that begins something is answered as the case in its prompt says."""

    def say(asked: Asked) -> Say:
        found = re.search(rb"<([^>]*)>", asked.body)
        assert found is not None
        return cases[found[1].decode()]

    api.on("POST", ".*", say)


async def check_nothing_is_left(house: House, folder: Path) -> None:
    """Every task has failed, none runs, the store is empty."""
    for status in ("queued", "running", "completed", "cancelled", "timed_out"):
        _, page, _ = await house.ask("GET", "/v1/tasks", params={"status": status})
        assert page["data"] == [], status
    assert (await house.ask("GET", "/v1/files"))[1]["data"] == []
    assert [path for path in (folder / "data" / "media").rglob("*") if path.is_file()] == []


async def test_pictures(house: House, tmp_path: Path, api: VendorServer) -> None:
    cases = {name: (say, verdict) for name, (say, verdict) in BAD.items()}
    cases |= {name: (Say(text), FAULT) for name, text in NO_RESULT.items()}
    answers(api, {name: say for name, (say, _) in cases.items()})
    found, wanted = {}, {}

    async def ask(model: str, case: str, verdict: tuple[int, str]) -> None:
        asked = {"model": model_of(PICTURES_OF.get(model, "pictures"), model, case), "prompt": f"<{case}>"}
        status, answer, headers = await house.ask("POST", "/v1/images/generations", json=asked)
        assert set(answer) == {"error"}
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        error = answer["error"]
        assert KEY not in error["message"], error
        assert len(error["message"]) > 15, error
        found[model, case] = status, error["code"], error["param"], headers.get("Retry-After")
        wanted[model, case] = *verdict, PARAMS.get(case), "900" if case == "later" else None

    async with asyncio.TaskGroup() as group:
        for case, (_, verdict) in cases.items():
            for model in PICTURES:
                group.create_task(ask(model, case, verdict))

    assert found == wanted
    await check_nothing_is_left(house, tmp_path)


async def test_films(house: House, tmp_path: Path, api: VendorServer) -> None:
    cases = BAD | {name: (Say(text), UNKNOWN) for name, text in NO_RESULT.items()}
    answers(api, {name: say for name, (say, _) in cases.items()})
    found, wanted = {}, {}

    async def ask(vendor: str, case: str, code: str) -> None:
        asked = {"model": model_of(vendor, f"film-{vendor}", case), "prompt": f"<{case}>"}
        status, answer, _ = await house.ask("POST", "/v1/videos", json=asked)
        assert status == 200, answer
        await house.ended(answer["task_id"])
        _, answer, _ = await house.ask("GET", f"/v1/videos/{answer['id']}")
        assert set(answer["error"]) == {"code", "message"}
        assert KEY not in answer["error"]["message"]
        found[vendor, case] = answer["status"], answer["error"]["code"]
        wanted[vendor, case] = "failed", code

    async with asyncio.TaskGroup() as group:
        for case, (_, (_, code)) in cases.items():
            for vendor in VENDORS:
                group.create_task(ask(vendor, case, code))

    assert found == wanted
    await check_nothing_is_left(house, tmp_path)


async def made(house: House, vendor: str, name: str) -> dict[str, Any]:
    """The ended film."""
    _, answer, _ = await house.ask("POST", "/v1/videos", json={"model": f"film-{vendor}", "prompt": name})
    await house.ended(answer["task_id"])
    return dict((await house.ask("GET", f"/v1/videos/{answer['id']}"))[1])


async def test_a_look_in_vain_loses_no_film(house: House, shop: Shop) -> None:
    """What begins is paid for; a page of somebody in between, while it is looked after, is no end of it."""
    vain = (Say("<html>busy", media_type="text/html"), Say("{}"), Say("busy", 503), Say("who?", 404))
    for vendor in VENDORS:
        shop.hang(f"{vendor}-polled", "poll", *vain)
    vain = (Say("<html>busy", media_type="text/html"), Say("busy", 503), Say("not yet", 400), Say("not yet", 404))
    for vendor in ("minimax", "fal"):
        shop.hang(f"{vendor}-fetched", "link", *vain)
    for vendor in VENDORS:
        shop.hang(f"{vendor}-early", "result", Say("not yet", 404), Say("not yet", 425))

    names = [f"{vendor}-polled" for vendor in VENDORS] + ["minimax-fetched", "fal-fetched"]
    names += [f"{vendor}-early" for vendor in VENDORS]
    films = await asyncio.gather(*(made(house, name.partition("-")[0], name) for name in names))

    assert [film["error"] for film in films] == [None] * len(names)
    for name, film in zip(names, films, strict=True):
        async with house.client.get(film["url"]) as shown:
            assert await shown.read() == film_of(name)
        assert shop.submits(name) == 1


async def test_what_cannot_be_kept_is_the_providers_fault(house: House, tmp_path: Path, shop: Shop) -> None:
    big = b"\x00\x00\x00\x20ftypisom" + bytes(2 << 20)
    results = {
        "page": Say("<!doctype html><p>sign in", media_type="text/html"),
        "large": Say(big, media_type="video/mp4"),
        "endless": Say(big[:99], media_type="video/mp4", endless=bytes(65536)),
        "empty": Say(b"", media_type="video/mp4"),
        "forbidden": Say("no", 401),
    }
    for name, say in results.items():
        shop.hang(f"openai-{name}", "result", *[say] * 3)

    films = await asyncio.gather(*(made(house, "openai", f"openai-{name}") for name in results))

    found = {film["prompt"].removeprefix("openai-"): film["error"]["code"] for film in films if film["error"]}
    assert found == {**dict.fromkeys(results, "provider_error"), "forbidden": "fetch_failed"}
    await check_nothing_is_left(house, tmp_path)


STRANGE: Final = (
    '{"created": NaN, "size": "\\ud800", "quality": 1e999, "usage": {"cost": Infinity, "tokens": 1' + "0" * 400 + "}, "
    '"data": [{"b64_json": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA=", "revised_prompt": "a \\udfff fox"}]}'
)


async def test_what_stands_beside_a_picture_does_not_spoil_it(house: House, api: VendorServer) -> None:
    api.on("POST", ".*", Say(STRANGE))

    status, answer, _ = await house.ask("POST", "/v1/images/generations", json={"model": "pictures", "prompt": "fox"})

    assert status == 200, answer
    assert answer["data"][0]["revised_prompt"] == "a ? fox"
    _, task, _ = await house.ask("GET", f"/v1/tasks/{answer['task_id']}")
    assert task["status"] == "completed"
    assert task["result"]["usage"] == {"cost": None, "tokens": None}
