"""kill -9 in every phase of paid work, all of them at one moment: nothing is paid twice, and nothing is left."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api, File, Task
from tests.e2e.crashes.test_kill_phases import rows_withheld
from tests.e2e.traffic import Traffic
from tests.e2e.waiting import becomes
from tests.infra.process import need
from tests.infra.s3 import Bucket
from tests.infra.servers.mediagen import Server
from tests.infra.servers.vendor import Say, VendorServer
from tests.infra.servers.vendors import VENDORS, Shop, film_of, picture_of

pytestmark = pytest.mark.e2e

MIB = 1 << 20
PICTURES = "/v1/images/generations"
UNKNOWN = ("failed", "outcome_unknown")
DONE = ("completed", None)
HALF = 150_000
HANGS = Say(silent=True)


@pytest.fixture
def api() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.fixture
def shop(api: VendorServer) -> Shop:
    return Shop(api)


class Client:
    """Asks for films and pictures, each with an Idempotency-Key, and asks again when the server dies."""

    def __init__(self, api: Api, group: asyncio.TaskGroup) -> None:
        self._api = api
        self._group = group
        self._asked: dict[str, tuple[str, dict[str, Any]]] = {}

    async def film(self, name: str, model: str) -> None:
        await self._ask(name, "/v1/videos", {"model": model, "prompt": name})

    def pictures(self, name: str, model: str = "pictures", count: int = 3, **more: Any) -> None:
        """Waited for meanwhile."""
        self._group.create_task(self._ask(name, PICTURES, {"model": model, "prompt": name, "n": count, **more}))

    async def ingest(self, name: str, url: str) -> None:
        await self._ask(name, "/v1/ingest", {"url": url, "filename": name})

    async def _ask(self, name: str, path: str, body: dict[str, Any]) -> None:
        self._asked[name] = path, body
        while True:
            try:
                await self._post(name)
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
            else:
                return

    async def _post(self, name: str) -> str:
        path, body = self._asked[name]
        headers = {"Idempotency-Key": name, "Content-Type": "application/json"}
        data = io.BytesIO(json.dumps(body).encode())
        async with self._api.session.post(path, data=data, headers=headers) as answer:
            document = await answer.json(content_type=None)
            # five kills that nothing came between are too many for a task
            assert answer.status in (200, 202, 502) or "the server stopped" in document["error"]["message"], document
            of_task = answer.headers.get("x-mediagen-task") or document["id"]
        return str(of_task).removeprefix("task_").removeprefix("video_")

    async def check_repeats(self, tasks: dict[str, Task]) -> None:
        """Each call, made again, gives the task of the first time, and there is no other."""
        again = {name: await self._post(name) for name in self._asked}
        assert again == {name: task["id"].removeprefix("task_") for name, task in tasks.items()}
        assert len(await self._api.tasks()) == len(self._asked)


@asynccontextmanager
async def client(api: Api) -> AsyncIterator[Client]:
    async with asyncio.TaskGroup() as group:
        yield Client(api, group)


async def tasks_of(api: Api) -> dict[str, Task]:
    """All tasks by their names."""
    return {task["request"].get("prompt") or task["request"]["filename"]: task for task in await api.tasks()}


async def ended(api: Api, seconds: float = 60) -> dict[str, Task]:
    """All tasks by their names, once they have ended."""
    async with asyncio.timeout(seconds):
        while True:
            tasks = await tasks_of(api)
            if not any(task["status"] in ("queued", "running") for task in tasks.values()):
                return tasks
            await asyncio.sleep(0.05)


def verdicts(tasks: dict[str, Task]) -> dict[str, tuple[str, str | None]]:
    """State and code of each."""
    return {name: (task["status"], task["error"]["code"] if task["error"] else None) for name, task in tasks.items()}


def files_of(tasks: dict[str, Task]) -> dict[str, list[File]]:
    """What each task made."""
    found = {}
    for name, task in tasks.items():
        result = task["result"] or {}
        found[name] = result.get("files") or ([result["file"]] if result.get("file") else [])
    return found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def check_what_is_there(server: Server, tasks: dict[str, Task]) -> None:
    """The store has the files of these tasks, each as its vendor gave it, and nothing else; no process is left."""
    files = files_of(tasks)
    for name, made in files.items():
        if "picture" in name and made:
            assert [file["sha256"] for file in made] == [sha256(picture_of(name, i)) for i in range(len(made))], name
        elif "film" in name and made:
            assert [file["sha256"] for file in made] == [sha256(film_of(name))], name
    wanted = [file for made in files.values() for file in made]
    # what an attempt left that ended badly may be removed a moment after its end
    await becomes(lambda: len(leavings.media(server)) == len(wanted))
    leavings.only_here(server, *wanted)
    leavings.no_child(server)


def on_disk(server: Server) -> tuple[int, int]:
    """How many whole files and how many unfinished ones are in the store."""
    found = [path.suffix == ".part" for path in leavings.media(server)]
    return found.count(False), found.count(True)


def is_given_up(task: Task) -> bool:
    """Whether it ran at so many kills that it is not taken up any more."""
    return task["error"] is not None and "the server stopped" in task["error"]["message"]


async def killed_with_its_children(server: Server) -> None:
    """Kill the server, and wait until its children have noticed."""
    children = [Path(f"/proc/{pid}") for pid in server.children]
    await server.kill9()
    await becomes(lambda: not any(child.exists() for child in children))


async def test_pictures_that_are_made_in_one_call(tmp_path: Path, api: VendorServer, shop: Shop) -> None:
    phases = {
        "unheard-picture": UNKNOWN,
        "unanswered-picture": UNKNOWN,
        "half-a-picture": UNKNOWN,
        "a-second-picture": UNKNOWN,
        "stored-pictures": UNKNOWN,
        "a-silent-url-picture": UNKNOWN,
        "half-a-url-picture": UNKNOWN,
        "queued-pictures": DONE,
    }
    shop.urls = {"a-silent-url-picture", "half-a-url-picture"}
    shop.hang("unanswered-picture", "submit", HANGS)
    shop.hang("half-a-picture", "submit", Say(stall=HALF))
    shop.hang("a-second-picture", "submit", Say(stall=3 * HALF))
    shop.hang("stored-pictures", "submit", Say(stall=-2))
    shop.hang("a-silent-url-picture", "result-1", HANGS)
    shop.hang("half-a-url-picture", "result-1", Say(stall=HALF))
    settings = {"providers": shop.settings(), "tasks": {"lanes": {"image": len(phases) - 1}}}
    async with Server(tmp_path, settings) as server, Api(server.url) as ours:
        async with client(ours) as asking:
            asking.pictures("unheard-picture", "deaf-pictures", padding="x" * 3 * MIB)
            for name in list(phases)[1:-1]:
                asking.pictures(name)
            async with asyncio.timeout(30):
                while len(await ours.tasks()) < len(phases) - 1:
                    await asyncio.sleep(0.02)
            asking.pictures("queued-pictures")
            # whole: one of those whose second hangs, the first of the URLs likewise, three; half: one of each kind
            await becomes(lambda: on_disk(server) == (1 + 1 + 1 + 3, 3))
            await becomes(lambda: shop.submits("unanswered-picture") == 1)
            await becomes(lambda: len(api.calls("POST", "/pictures-deaf/.*")) == 1)
            await becomes(lambda: shop.reached("a-silent-url-picture", "result-1"))
            assert (await tasks_of(ours))["queued-pictures"]["status"] == "queued"
            assert shop.submits("queued-pictures") == 0
            await server.kill9()
            shop.open_up()
            await server.restart()
        tasks = await ended(ours)

        assert verdicts(tasks) == phases
        assert [len(files) for files in files_of(tasks).values() if files] == [3]
        await asking.check_repeats(tasks)
        assert {name: shop.submits(name) for name in phases} == {name: name != "unheard-picture" for name in phases}
        assert len(api.calls("POST", "/pictures-deaf/.*")) == 1
        await check_what_is_there(server, tasks)


async def test_jobs_of_every_vendor(tmp_path: Path, api: VendorServer, shop: Shop) -> None:
    phases = {"unanswered": UNKNOWN, "begun": UNKNOWN, "polled": DONE, "fetched": DONE, "half": DONE}
    held = {
        "unanswered": ("submit", HANGS),
        "begun": ("submit", Say(stall=10)),
        "polled": ("poll", HANGS),
        "fetched": ("result", HANGS),
        "half": ("result", Say(stall=HALF)),
    }
    wanted = {f"{vendor}-{phase}-film": verdict for vendor in VENDORS for phase, verdict in phases.items()}
    wanted |= {f"{vendor}-unheard-film": UNKNOWN for vendor in VENDORS}
    running = len(wanted)
    wanted |= {f"{vendor}-queued-film": DONE for vendor in VENDORS} | {"three-pictures": DONE}
    shop.hang("three-pictures", "result-1", Say(stall=HALF))
    for vendor in VENDORS:
        for phase, (where, say) in held.items():
            shop.hang(f"{vendor}-{phase}-film", where, say)
    settings = {"providers": shop.settings(), "tasks": {"lanes": {"video": running}}}
    async with Server(tmp_path, settings) as server, Api(server.url) as ours:
        async with client(ours) as asking:
            for name in wanted:
                vendor = name.partition("-")[0]
                if vendor in VENDORS:
                    await asking.film(name, f"deaf-film-{vendor}" if "unheard" in name else f"film-{vendor}")
            asking.pictures("three-pictures", "pictures-replicate")
            places = [(f"{vendor}-{phase}-film", where) for vendor in VENDORS for phase, (where, _) in held.items()]
            await becomes(lambda: all(shop.reached(name, where) for name, where in places))
            await becomes(lambda: all(len(api.calls("POST", f"/{vendor}-deaf/.*")) == 1 for vendor in VENDORS))
            await becomes(lambda: on_disk(server) == (1, len(VENDORS) + 1))
            assert not any(shop.submits(f"{vendor}-queued-film") for vendor in VENDORS)
            await server.kill9()
            shop.open_up()
            await server.restart()
        tasks = await ended(ours)

        assert verdicts(tasks) == wanted
        await asking.check_repeats(tasks)
        assert {name: shop.submits(name) for name in wanted} == {name: "unheard" not in name for name in wanted}
        assert all(len(api.calls("POST", f"/{vendor}-deaf/.*")) == 1 for vendor in VENDORS)
        assert len(files_of(tasks)["three-pictures"]) == 3
        await check_what_is_there(server, tasks)


async def test_what_happened_and_could_not_be_written_down(tmp_path: Path, api: VendorServer, shop: Shop) -> None:
    begun = [f"{vendor}-begun-film" for vendor in VENDORS]
    for name in begun:
        shop.hang(name, "submit", Say(silent=True, last=True))
    shop.hang("openai-stored-film", "result", Say(stall=-1))
    shop.hang("stored-picture", "submit", Say(stall=-10))
    async with Server(tmp_path, {"providers": shop.settings()}) as server, Api(server.url) as ours:
        async with client(ours) as asking:
            for name in (*begun, "openai-stored-film"):
                await asking.film(name, f"film-{name.partition('-')[0]}")
            asking.pictures("stored-picture", count=1)
            await becomes(lambda: all(shop.submits(name) for name in begun))
            await becomes(lambda: on_disk(server) == (0, 2))
            with rows_withheld(server):
                api.release()
                # the ids have come, the film and the picture are whole and visible
                await becomes(lambda: sum(asked.taken for asked in api.asked) == len(begun))
                await becomes(lambda: on_disk(server) == (2, 0))
                await server.kill9()
            shop.open_up()
            await server.restart()
        tasks = await ended(ours)

        wanted = dict.fromkeys([*begun, "stored-picture"], UNKNOWN) | {"openai-stored-film": DONE}
        assert verdicts(tasks) == wanted
        await asking.check_repeats(tasks)
        assert {name: shop.submits(name) for name in wanted} == dict.fromkeys(wanted, 1)
        await check_what_is_there(server, tasks)


async def test_a_film_on_its_way_into_a_bucket(
    tmp_path: Path, api: VendorServer, bucket: Bucket, traffic: Traffic
) -> None:
    film = film_of("a film") * 40  # more than a part
    vendor = {"type": "openai", "base_url": f"{api.url}/v1", "models": ["sora-2"], "api_key": "sk-test-0123456789"}
    api.on("POST", "/v1/videos", Say({"id": "v1", "status": "queued"}))
    api.on("GET", "/v1/videos/v1", Say({"id": "v1", "status": "completed"}))
    api.on("GET", "/v1/videos/v1/content", Say(film, media_type="video/mp4", stall=len(film) - 1000))
    settings = configuration.s3(bucket, traffic.proxy.url) | {"providers": {"vendor": vendor}}
    async with Server(tmp_path, settings) as server, Api(server.url) as ours:
        task = await ours.call("POST", "/v1/videos", json={"model": "sora-2", "prompt": "waves"})
        await traffic.stores(1)
        await server.kill9()
        await traffic.settled()
        assert len(await bucket.uploads()) == 1
        api.on("GET", "/v1/videos/v1/content", Say(film, media_type="video/mp4"))

        await server.restart()
        file = await ours.completed(task["task_id"])

        assert (await ours.content(file)).sha256 == sha256(film)
        assert len(api.calls("POST")) == 1
        await leavings.only(bucket, file)


async def test_any_moment(tmp_path: Path, api: VendorServer, shop: Shop, chance: random.Random) -> None:
    """Ten tasks of all kinds, six kills."""
    need("ffmpeg")
    shop.delay = lambda: chance.uniform(0, 0.15)
    shop.urls = {"url-pictures"}
    async with Server(tmp_path, {"providers": shop.settings()}) as server, Api(server.url) as ours:
        async with client(ours) as asking:
            todo: list[tuple[Callable[[str, str], Awaitable[None]], str, str]]
            todo = [(asking.film, f"{vendor}-film", f"film-{vendor}") for vendor in VENDORS]
            todo += [(asking.film, "clip", "builtin-clip"), (asking.ingest, "plain-film", f"{api.url}/film/plain-film")]
            chance.shuffle(todo)
            asking.pictures("base64-pictures")
            asking.pictures("url-pictures")
            asking.pictures("job-pictures", "pictures-replicate")
            for _ in range(6):
                for call, name, what in [todo.pop() for _ in range(min(2, len(todo)))]:
                    await call(name, what)
                await asyncio.sleep(chance.uniform(0.02, 0.6))
                await killed_with_its_children(server)
                await server.restart()
        tasks = await ended(ours)

        for name, verdict in verdicts(tasks).items():
            free = name in ("clip", "plain-film")
            assert verdict == DONE or (verdict == UNKNOWN and not free) or is_given_up(tasks[name]), (name, verdict)
        submits = {name: shop.submits(name) for name in tasks}
        assert all(count <= 1 for count in submits.values()), submits
        await asking.check_repeats(tasks)
        assert {name: shop.submits(name) for name in tasks} == submits
        await check_what_is_there(server, tasks)
