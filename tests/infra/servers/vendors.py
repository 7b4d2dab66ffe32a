"""Every kind of vendor behind one scripted API, which counts what it would be paid for.

What is asked for is named by its prompt: ``openai-polled`` is one film or picture set. By that name a single job can be
made to hang in one of its phases.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from tests.infra.content import content_bytes
from tests.infra.servers.vendor import Asked, Say, VendorServer

FILM: Final = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + content_bytes(300_000)
PICTURE: Final = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0" + content_bytes(200_000)
VENDORS: Final = ("openai", "minimax", "google", "replicate", "fal")
_OK: Final = {"status_code": 0, "status_msg": "success"}
_NAME: Final = r"([a-z0-9-]+)"


def film_of(name: str) -> bytes:
    """The bytes of the film of this name."""
    return FILM + name.encode()


def picture_of(name: str, index: int) -> bytes:
    """The bytes of one of the pictures of this name."""
    return PICTURE + f"{name} {index}".encode()


class Shop:
    """The vendors. ``hang(name, phase, say)`` holds up one job; ``open_up`` ends that for all."""

    def __init__(self, api: VendorServer) -> None:
        self._api = api
        self._held: dict[tuple[str, str], list[Say]] = {}
        self.delay: Callable[[], float] = lambda: 0.0
        """Seconds of each answer."""
        self.urls: set[str] = set()
        """Names of pictures that are answered as URLs, not as base64."""
        for vendor in VENDORS:
            api.on("POST", f"/{vendor}-deaf/.*", Say(deaf=True))
        api.on("POST", "/pictures-deaf/.*", Say(deaf=True))
        self._script()

    def settings(self) -> dict[str, Any]:
        """Providers whose models are ``film-<vendor>``, ``pictures``, ``pictures-replicate``, and all again as
        ``deaf-…`` of vendors that take no body."""
        providers: dict[str, Any] = {}
        for deaf in ("", "-deaf"):
            for vendor, (base, models) in _SETTINGS.items():
                kind = "openai" if vendor == "pictures" else vendor
                providers[f"{vendor}{deaf}"] = {
                    "type": kind,
                    "base_url": f"{self._api.url}/{vendor}{deaf}{base}",
                    "api_key": "sk-test-0123456789",
                    "models": [f"{deaf[1:]}{deaf and '-'}{model}" for model in models],
                }
        return providers

    def hang(self, name: str, phase: str, *says: Say) -> None:
        """Answer so the next times in this phase of a job: ``submit``, ``poll``, ``link``, ``result``; of pictures
        ``result-<index>``. Without a body: as it would be, held up."""
        self._held[name, phase] = list(says)

    def open_up(self) -> None:
        """Everything is answered from now on."""
        self._held.clear()

    def submits(self, name: str) -> int:
        """How often this was asked to be made."""
        return sum(1 for asked in self._api.asked if asked.method == "POST" and _prompt_of(asked) == name)

    def reached(self, name: str, phase: str) -> bool:
        """Whether the job was asked about in this phase."""
        if phase == "submit":
            return self.submits(name) > 0
        return any(name in asked.path + asked.query for asked in self._api.asked if _PHASES[phase].search(asked.path))

    def _say(self, name: str, phase: str, body: Any, media_type: str = "application/json") -> Say:
        waiting = self._held.get((name, phase))
        if not waiting:
            return Say(body, media_type=media_type, delay=self.delay())
        held = waiting.pop(0)
        return held if held.body is not None else _with(held, body, media_type)

    def _script(self) -> None:
        on, url = self._api.on, self._api.url

        def submit(path: str, answer: Callable[[str], dict[str, Any]]) -> None:
            def say(asked: Asked) -> Say:
                name = _prompt_of(asked) or ""
                return self._say(name, "submit", answer(name))

            on("POST", path, say)

        def look(path: str, answer: Callable[[str], dict[str, Any]], phase: str = "poll") -> None:
            def say(asked: Asked) -> Say:
                found = re.fullmatch(path, asked.path)
                assert found is not None
                query = parse_qs(asked.query)
                name = found[1] if found.groups() else (query.get("task_id") or query["file_id"])[0]
                return self._say(name, phase, answer(name))

            on("GET", path, say)

        def link(name: str) -> str:
            return f"{url}/film/{name}"

        def output(name: str) -> list[str] | str:
            return [f"{url}/picture/{name}/{index}" for index in range(3)] if "picture" in name else link(name)

        submit("/openai/v1/videos", lambda name: {"id": name, "status": "queued"})
        look(f"/openai/v1/videos/{_NAME}", lambda name: {"id": name, "status": "completed"})
        on("GET", f"/openai/v1/videos/{_NAME}/content", self._film)

        submit("/minimax/v1/video_generation", lambda name: {"task_id": name, "base_resp": _OK})
        look(
            "/minimax/v1/query/video_generation",
            lambda name: {"task_id": name, "status": "Success", "file_id": name, "base_resp": _OK},
        )
        look(
            "/minimax/v1/files/retrieve",
            lambda name: {"file": {"file_id": name, "download_url": link(name)}, "base_resp": _OK},
            "link",
        )

        google = "/google/v1beta/models/veo-3.1-generate-preview"
        submit(f"{google}:predictLongRunning", lambda name: {"name": f"models/veo/operations/{name}"})
        look(
            f"/google/v1beta/models/veo/operations/{_NAME}",
            lambda name: {
                "done": True,
                "response": {"generateVideoResponse": {"generatedSamples": [{"video": {"uri": link(name)}}]}},
            },
        )

        submit("/replicate/v1/models/maker/.*/predictions", lambda name: {"id": name, "status": "starting"})
        look(
            f"/replicate/v1/predictions/{_NAME}",
            lambda name: {"id": name, "status": "succeeded", "output": output(name), "error": None, "logs": ""},
        )

        submit("/fal/maker/film", lambda name: {"request_id": name})
        look(f"/fal/maker/film/requests/{_NAME}/status", lambda _: {"status": "COMPLETED"})
        look(f"/fal/maker/film/requests/{_NAME}", lambda name: {"video": {"url": link(name)}}, "link")

        on("GET", f"/film/{_NAME}", self._film)
        on("GET", f"/picture/{_NAME}/[0-9]", self._picture)
        on("POST", "/pictures/v1/images/generations", self._pictures)

    def _film(self, asked: Asked) -> Say:
        name = asked.path.removesuffix("/content").rpartition("/")[2]
        return self._say(name, "result", film_of(name), "video/mp4")

    def _picture(self, asked: Asked) -> Say:
        name, index = asked.path.split("/")[-2:]
        return self._say(name, f"result-{index}", picture_of(name, int(index)), "image/png")

    def _pictures(self, asked: Asked) -> Say:
        name, count = asked.json["prompt"], asked.json["n"]
        if name in self.urls:
            data = [{"url": f"{self._api.url}/picture/{name}/{index}"} for index in range(count)]
        else:
            data = [{"b64_json": base64.b64encode(picture_of(name, index)).decode()} for index in range(count)]
        return self._say(name, "submit", json.dumps({"created": 1, "data": data}).encode())


_SETTINGS: Final[Mapping[str, tuple[str, list[str]]]] = {
    "openai": ("/v1", ["film-openai=sora-2"]),
    "minimax": ("", ["film-minimax=MiniMax-Hailuo-2.3"]),
    "google": ("/v1beta", ["film-google=veo-3.1-generate-preview"]),
    "replicate": ("/v1", ["film-replicate=maker/film", "pictures-replicate=maker/pictures"]),
    "fal": ("", ["film-fal=maker/film"]),
    "pictures": ("/v1", ["pictures=m"]),
}
_PHASES: Final[Mapping[str, re.Pattern[str]]] = {
    "poll": re.compile(r"/openai/v1/videos/[^/]+$|/query/|/operations/|/predictions/|/status$"),
    "result": re.compile(r"/content$|^/film/"),
    **{f"result-{index}": re.compile(f"^/picture/.*/{index}$") for index in range(3)},
}


def _prompt_of(asked: Asked) -> str | None:
    """What a call that is paid for asks for; None of any other call."""
    if not asked.body:
        return None
    if asked.headers["content-type"].startswith("multipart/"):
        return asked.form["prompt"][0].decode()
    document = asked.json
    place = document.get("input") or (document.get("instances") or [document])[0]
    return str(place["prompt"]) if "prompt" in place else None


def _with(held: Say, body: Any, media_type: str) -> Say:
    """``held`` with this body; a negative ``stall`` counts from its end."""
    whole = Say(body, media_type=media_type, silent=held.silent, last=held.last)
    if held.stall is None:
        return whole
    size = len(whole.content)
    return Say(body, media_type=media_type, stall=held.stall if held.stall >= 0 else size + held.stall)
