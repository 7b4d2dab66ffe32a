"""A film that is rendered while the server is killed and stopped: what was rendered is not rendered again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import leavings
from tests.e2e.api import Api
from tests.e2e.waiting import becomes
from tests.infra.servers.mediagen import Server

pytestmark = pytest.mark.e2e

SCENES = [
    {
        "text": f"Scene {number}.",
        "voiceover": True,
        "background": {"type": "gradient", "motion": "zoom_in"},
        "duration": 4,
    }
    for number in range(6)
]
FILM = {"title": "A film", "size": "640x360", "fps": 30, "scenes": SCENES}


def windows(server: Server, least: int) -> bool:
    folder = server.data_dir / "cache" / "compose"
    return folder.is_dir() and len([path for path in folder.glob("window-*.mp4") if "part" not in path.name]) >= least


def left_behind(server: Server) -> list[Path]:
    """Files that belong to no finished work."""
    work, cache = server.data_dir / "work", server.data_dir / "cache"
    return [
        path
        for path in (*work.rglob("*"), *cache.rglob("*"))
        if path.is_fifo() or (path.is_file() and (path.is_relative_to(work) or "part" in path.name))
    ]


async def submit(api: Api, film: dict[str, Any]) -> str:
    return str((await api.call("POST", "/v1/compositions", json=film))["id"])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("ends", ["kill9", "stop"])
async def test_rendered_windows_survive_the_end_of_the_server(tmp_path: Path, ends: str) -> None:
    async with Server(tmp_path) as server, Api(server.url) as api:
        task_id = await submit(api, FILM)
        await becomes(partial(windows, server, 2), seconds=60)
        await (server.kill9() if ends == "kill9" else server.stop())
        leavings.no_child(server)

        await server.restart()
        ended = await api.ended(task_id, seconds=120)

        assert ended["status"] == "completed", ended["error"]
        assert ended["attempt"] == 1
        assert ended["result"] is not None
        report = ended["result"]["report"]
        assert report["windows"] == 6
        assert report["windows_reused"] >= 2
        assert report["frames"] == 6 * 120
        assert left_behind(server) == []
        leavings.no_child(server)
