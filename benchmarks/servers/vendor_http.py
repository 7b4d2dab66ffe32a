"""A vendor on loopback that answers at once: ``python -m benchmarks.servers.vendor_http --port N …``.

| call                                    | answer                                                                   |
|-----------------------------------------|--------------------------------------------------------------------------|
| ``POST /v1/images/generations``         | model ``url``: a URL of the picture; any other: ``--picture-json``       |
| ``GET /picture``                        | ``--picture``                                                            |
| ``POST /v1/videos``, ``GET`` of a job   | a job that is completed, of ``sora-endless`` one that always runs   |
| ``GET /v1/videos/{id}/content``         | ``--film``, with Range and validators                                    |
| MiniMax's calls                         | a job that is completed; its film lies at ``--film-url``                 |
| Google's calls                          | an operation that is done, its film in base64: ``--film-json``           |

Files are sent by the kernel. Shapes are those of the vendors' documentation; see ``mediagen.providers``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from aiohttp import web

_OK: Final = {"status_code": 0, "status_msg": "success"}


class Vendor:
    """The answers."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args

    def routes(self) -> list[web.RouteDef]:
        google = "/v1beta/models/veo-3.1-generate-preview"
        return [
            web.post("/v1/images/generations", self._pictures),
            web.get("/picture", self._picture),
            web.post("/v1/videos", self._video),
            web.get("/v1/videos/{id}", self._video_job),
            web.get("/v1/videos/{id}/content", self._film),
            web.post("/v1/video_generation", self._minimax),
            web.get("/v1/query/video_generation", self._minimax_job),
            web.get("/v1/files/retrieve", self._minimax_file),
            web.post(google + ":predictLongRunning", self._google),
            web.get("/v1beta/models/veo/operations/1", self._google_job),
        ]

    async def _pictures(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if asked["model"] == "url":
            return web.json_response({"created": 1, "data": [{"url": str(request.url.origin() / "picture")}]})
        return _file(self._args.picture_json, "application/json")

    async def _picture(self, _: web.Request) -> web.StreamResponse:
        return _file(self._args.picture, "image/png")

    async def _video(self, request: web.Request) -> web.StreamResponse:
        model = str((await request.post())["model"])
        return web.json_response({"id": f"video_{model}", "object": "video", "status": "queued"})

    async def _video_job(self, request: web.Request) -> web.StreamResponse:
        runs = request.match_info["id"] == "video_sora-endless"
        state: dict[str, Any] = {"status": "in_progress", "progress": 40} if runs else {"status": "completed"}
        return web.json_response({"id": request.match_info["id"], "object": "video", **state})

    async def _film(self, _: web.Request) -> web.StreamResponse:
        return _file(self._args.film, "video/mp4")

    async def _minimax(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"task_id": "1", "base_resp": _OK})

    async def _minimax_job(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"task_id": "1", "status": "Success", "file_id": "1", "base_resp": _OK})

    async def _minimax_file(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"file": {"file_id": 1, "download_url": self._args.film_url}, "base_resp": _OK})

    async def _google(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"name": "models/veo/operations/1"})

    async def _google_job(self, _: web.Request) -> web.StreamResponse:
        return _file(self._args.film_json, "application/json")


def _file(path: Path | None, media_type: str) -> web.StreamResponse:
    if path is None:
        raise web.HTTPNotFound(text="this vendor was started without that file")
    return web.FileResponse(path, headers={"Content-Type": media_type})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers.vendor_http")
    parser.add_argument("--port", type=int, required=True)
    for name in ("picture", "picture-json", "film", "film-json"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--film-url")
    args = parser.parse_args()
    app = web.Application()
    app.add_routes(Vendor(args).routes())
    web.run_app(app, host="127.0.0.1", port=args.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
