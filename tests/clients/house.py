"""The server that the clients of others are tested against, and the vendor behind it; both for the whole run."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mediagen.events.webhooks.signing import generate_secret
from tests.clients.client import NAMES, Client, Outcome
from tests.clients.files import PNG
from tests.infra.servers.mediagen import Server
from tests.infra.servers.vendor import Say, VendorServer

T = TypeVar("T")

PAGE = (Path(__file__).parent / "page.html").read_bytes()
"""A page that does what a test asks of it (``browser.Page.call``)."""

ADMIN = "sk-of-the-server"
PICTURE = Say({"created": 1, "data": [{"b64_json": base64.b64encode(PNG + bytes(100)).decode()}]})
TROUBLES = ("busy", "sick", "lost", "key")
"""What ails an account at the vendor. Each client has its own, for the server remembers; ``busy-node`` is a model."""
SLASHED = "lab/fox-1"
"""A model behind the vendor, whose name has a slash."""
NEVER = {"status": "in_progress", "progress": 10}
"""What a vendor says of a film that is not done, ever."""
SECRETS = [generate_secret(), generate_secret()]
"""Of webhooks: the new one and the old one."""


@dataclass(frozen=True)
class Job:
    """A film at the vendor, and the words by which it is asked for."""

    id: str
    prompt: str


@dataclass
class House:
    """The server, and the vendor behind its models ``m`` and ``gpt``; the latter shows pictures while it makes them."""

    server: Server
    vendor: VendorServer
    page: str = ""
    """Address of a page whose origin is in ``cors_origins``; by the name ``localhost`` its origin is another one."""
    film: dict[str, Any] = field(default_factory=dict)
    """One that is done, and the admin's."""
    _count: Iterator[int] = field(default_factory=itertools.count)

    @property
    def at(self) -> str:
        return f"{self.server.url}/v1"

    def ask(self, method: str, path: str, document: Any = None, key: str = ADMIN) -> Any:
        """The JSON of a success."""
        body = None if document is None else json.dumps(document).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
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
        return [asked for asked in self._documents() if asked.get("prompt") == prompt]

    def _documents(self) -> Iterator[dict[str, Any]]:
        for call in self.vendor.calls("POST"):
            if call.headers.get("content-type") == "application/json":
                yield call.json

    def until(self, video_id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The film once that is true of it."""
        end = time.monotonic() + 60
        while not holds(film := self.ask("GET", f"/videos/{video_id}")):
            assert time.monotonic() < end, film
            time.sleep(0.02)
        return dict(film)

    def job(self, *states: dict[str, Any], asked_at: str = "/v1/videos") -> Job:
        """Let the vendor take the next film on, and say this of it, the last again and again."""
        job = Job(f"job_{next(self._count)}", self.prompt())
        headers = {"openai-poll-after-ms": "50"}
        self.vendor.on("POST", asked_at, Say({"id": job.id, "status": "queued"}))
        self.vendor.on("GET", f"/v1/videos/{job.id}", *(Say({"id": job.id, **state}, 200, headers) for state in states))
        self.vendor.on("DELETE", f"/v1/videos/{job.id}", Say({"id": job.id, "deleted": True}))
        return job


def poster(client: Client, house: House, **fields: Any) -> Outcome:
    """A picture by the built-in provider."""
    return client.call("images.generate", at=house.at, key=ADMIN, model="builtin-poster", size="128x96", **fields)


def _troubled() -> list[str]:
    return [f"{trouble}-{name}" for trouble in TROUBLES for name in (*NAMES, "openai", "compatible", "litellm")]


@contextmanager
def housed(folder: Path) -> Iterator[House]:
    """The server in ``folder``, with one film that is done."""
    with VendorServer() as vendor, VendorServer() as pages:
        pages.on("GET", "/page", Say(PAGE, media_type="text/html"))
        account = {"type": "openai", "base_url": f"{vendor.url}/v1"}
        paid = {**account, "engine": "generic", "models": ["m"]}
        streaming = {**account, "engine": "openai", "models": ["gpt"]}
        troubled = {model: {**paid, "base_url": f"{vendor.url}/{model}/v1", "models": [model]} for model in _troubled()}
        settings = {
            "auth": {"required": True, "admin_key": ADMIN},
            "providers": {"paid": paid, "streaming": streaming, **troubled, "lab": {**paid, "models": [SLASHED]}},
            "server": {"max_json_bytes": 100_000, "cors_origins": [pages.url]},
            "webhooks": {"secret": " ".join(SECRETS)},
        }
        with held(Server(folder, settings)) as server:
            house = House(server, vendor, f"{pages.url}/page")
            film = house.ask("POST", "/videos", {"model": "builtin-clip", "prompt": "Waves", "seconds": 1})
            film = house.until(film["id"], lambda film: film["status"] not in {"queued", "in_progress"})
            assert film["status"] == "completed", film
            house.film = house.ask("GET", f"/files/{film['file_id']}") | {"video": film["id"]}
            yield house


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
