"""EventSources follow a task to its end and stay stopped; pages use the server from the origins that may, and no other.

The ``eventsource`` package for JavaScript, and Debian's Chromium, used as they are published (``tests/clients``).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.browser import Browser, Page
from tests.clients.client import MAJORS, Client
from tests.clients.house import ADMIN, House
from tests.infra.servers.fault_proxy import FaultProxyThread
from tests.infra.servers.faults import CutAnswer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]  # the first test waits for what all of them share

NAMES = ["snapshot", "task.status", "task.progress"]
STAINLESS = {"x-stainless-lang": "js", "x-stainless-retry-count": "0", "x-stainless-runtime": "browser"}
"""A few of the headers that OpenAI's client for JavaScript sends from a page."""


def clip(house: House, key: str = ADMIN) -> str:
    """The task of a film that takes a second or two."""
    return str(house.ask("POST", "/videos", {"model": "builtin-clip", "prompt": "Waves", "seconds": 1}, key)["task_id"])


def statuses(told: list[dict[str, Any]]) -> list[str]:
    """The states of a task in what an EventSource told, the same one once in a row."""
    found: list[str] = []
    for each in told:
        if each["type"] in NAMES:
            data = each["data"]
            status = (data["tasks"][0] if each["type"] == "snapshot" else data["task"])["status"]
            found += [] if found[-1:] == [status] else [status]
    return found


def test_it_is_the_client_that_is_meant(eventsource: Client) -> None:
    assert eventsource.version.partition(".")[0] == MAJORS["eventsource"]


def test_an_eventsource_follows_to_the_end_and_stays_stopped(eventsource: Client, house: House) -> None:
    url = f"{house.at}/tasks/{clip(house)}/events"
    done = eventsource.call("follow", url, NAMES, at=house.at, key=ADMIN)

    assert statuses(done.value)[-1] == "completed"
    assert done.statuses == [200, 204]
    ids = [int(each["id"]) for each in done.value if each["type"] in NAMES]
    assert ids == sorted(set(ids))
    assert done.exchanges[-1].headers["last-event-id"] == str(ids[-1])


def test_an_eventsource_comes_back_after_a_break(eventsource: Client, house: House) -> None:
    with FaultProxyThread("127.0.0.1", house.server.port) as proxy:
        proxy.add(CutAnswer(after=1000, reset=True), "GET", times=1)
        done = eventsource.call("follow", f"{proxy.url}/v1/tasks/{clip(house)}/events", NAMES, at=house.at, key=ADMIN)

    assert statuses(done.value)[-1] == "completed"
    assert done.statuses == [200, 200, 204]


def test_an_eventsource_of_what_is_over_stops_at_once(eventsource: Client, house: House) -> None:
    url = f"{house.at}/tasks/{house.film['task_id']}/events"
    done = eventsource.call("follow", url, NAMES, at=house.at, key=ADMIN)

    assert statuses(done.value) == ["completed"]
    assert done.statuses == [200, 204]


@pytest.mark.parametrize(("task", "key", "status"), [("task_" + "0" * 32, ADMIN, 404), ("task_" + "0" * 32, "no", 401)])
def test_an_eventsource_that_is_refused_stops(
    eventsource: Client, house: House, task: str, key: str, status: int
) -> None:
    done = eventsource.call("follow", f"{house.at}/tasks/{task}/events", NAMES, at=house.at, key=key)

    assert done.statuses == [status]
    assert [each["code"] for each in done.value] == [status]


# -- pages


async def json_of(page: Page, house: House, method: str, path: str, key: str, document: Any = None) -> Any:
    """The answer as a script sees it, and its JSON; None: the script is not let see any."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **STAINLESS}
    body = {} if document is None else {"body": json.dumps(document)}
    answer = await page.call("ask", f"{house.at}{path}", {"method": method, "headers": headers, **body})
    return None if answer is None else {**answer, "json": json.loads(answer["text"])}


async def ticket(page: Page, house: House, key: str) -> str:
    return str((await json_of(page, house, "POST", "/ws/tickets", key))["json"]["ticket"])


async def test_a_page_of_a_listed_origin_uses_the_server(browser: Browser, house: House) -> None:
    key = house.key()
    poster = {"model": "builtin-poster", "prompt": "A fox", "size": "128x96"}
    clip = {"model": "builtin-clip", "prompt": "Waves", "seconds": 1}
    async with browser.page(house.page) as page:
        made = await json_of(page, house, "POST", "/images/generations", key, poster)
        width = await page.call("show", made["json"]["data"][0]["url"])
        wrong = await json_of(page, house, "GET", "/tasks", "sk-wrong")
        film = await json_of(page, house, "POST", "/videos", key, clip)
        task = film["json"]["task_id"]
        events = f"{house.at}/tasks/{task}/events?ticket={await ticket(page, house, key)}"
        told = await page.call("follow", events, NAMES)
        shown = await json_of(page, house, "GET", f"/videos/{film['json']['id']}", key)
        socket = f"{house.at.replace('http', 'ws')}/ws?ticket={await ticket(page, house, key)}"
        heard = await page.call("listen", socket, [{"type": "subscribe", "tasks": [task]}], "snapshot")
        again = await page.call("listen", socket, [], "snapshot")

    assert (made["status"], width) == (200, 128)
    assert {"x-request-id", "x-mediagen-task"} <= set(made["headers"])
    assert {"x-request-id", "openai-poll-after-ms"} <= set(film["headers"])
    assert (wrong["status"], wrong["headers"]["www-authenticate"][:6]) == (401, "Bearer")
    assert statuses(told)[-1] == "completed"
    # the stream ended, the EventSource came back by itself and was told to stop
    assert [each["type"] for each in told][-2:] == ["error", "error"]
    assert (shown["status"], shown["json"]["status"]) == (200, "completed")
    assert [each["tasks"][0]["status"] for each in heard["told"]] == ["completed"]
    assert (heard["code"], again) == (1000, {"told": [], "code": 1006})  # a ticket opens one socket


async def test_a_page_of_a_listed_origin_keeps_files(browser: Browser, house: House) -> None:
    key = {"Authorization": f"Bearer {house.key()}"}
    upload = {"method": "POST", "body": "A fox in the snow", "headers": {**key, "Content-Type": "text/plain"}}
    async with browser.page(house.page) as page:
        kept = await page.call("ask", f"{house.at}/files", upload)
        at = f"{house.at}/files/{json.loads(kept['text'])['id']}"
        part = await page.call("ask", f"{at}/content", {"headers": {**key, "Range": "bytes=2-4"}})
        gone = await page.call("ask", at, {"method": "DELETE", "headers": key})
        missing = await page.call("ask", at, {"headers": key})

    assert (kept["status"], kept["headers"]["location"]) == (201, at.removeprefix(house.server.url))
    assert (part["status"], part["text"], part["headers"]["content-range"]) == (206, "fox", "bytes 2-4/17")
    assert {"accept-ranges", "content-disposition", "etag"} <= set(part["headers"])
    assert (gone["status"], missing["status"]) == (204, 404)


async def test_a_page_of_another_origin_gets_nothing(browser: Browser, house: House) -> None:
    key = house.key()
    poster = {"model": "builtin-poster", "prompt": "A fox", "size": "128x96"}
    film = house.ask("GET", f"/tasks/{house.film['task_id']}")["id"]
    issued = [house.ask("POST", "/ws/tickets")["ticket"] for _ in range(2)]
    async with browser.page(house.page.replace("127.0.0.1", "localhost")) as page:
        for method, path, document in [
            ("POST", "/images/generations", poster),
            ("GET", "/tasks", None),
            ("POST", "/ws/tickets", None),
            ("DELETE", f"/files/{house.film['id']}", None),
        ]:
            assert await json_of(page, house, method, path, key, document) is None
        # what a browser sends without asking first
        simple = {"method": "POST", "body": json.dumps(poster), "headers": {"Content-Type": "text/plain"}}
        assert await page.call("ask", f"{house.at}/images/generations", simple) is None
        assert await page.call("ask", f"{house.server.url}/livez", {}) is None
        told = await page.call("follow", f"{house.at}/tasks/{film}/events?ticket={issued[0]}", NAMES)
        socket = f"{house.at.replace('http', 'ws')}/ws?ticket={issued[1]}"
        heard = await page.call("listen", socket, [{"type": "subscribe", "tasks": "all"}], "snapshot")

    assert [each["type"] for each in told] == ["error"]
    assert heard == {"told": [], "code": 1006}
    assert house.ask("GET", "/tasks", key=key)["data"] == []
    assert house.ask("GET", f"/files/{house.film['id']}")["id"] == house.film["id"]
