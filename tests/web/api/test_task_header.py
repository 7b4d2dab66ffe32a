"""The header that names the task: on every route that makes one, whatever its answer looks like."""

from __future__ import annotations

from typing import Any

import pytest

from mediagen.web.api.routing import declarations
from mediagen.web.tasks.routes import TASK_HEADER
from tests.infra.process import need
from tests.web.conftest import Start
from tests.web.middleware.test_errors import OWNERS

PICTURE = {"prompt": "A fox", "size": "64x64"}
FILM = {"prompt": "Waves", "seconds": "1", "size": "64x64"}
RED = "data:image/gif;base64,R0lGODdhAQABAIAAAP8AAP///ywAAAAAAQABAAACAkQBADs="
CREATING: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("/v1/images/generations", PICTURE, {}),
    ("/v1/images/generations", PICTURE, {"Prefer": "respond-async"}),
    ("/v1/images/generations", {**PICTURE, "stream": True}, {}),
    ("/v1/images/generations", {**PICTURE, "response_format": "b64_json"}, {}),
    ("/v1/images/generations/async", PICTURE, {}),
    ("/api/images/generate", PICTURE, {}),
    ("/v1/videos", FILM, {}),
    ("/videos", FILM, {}),
    ("/v1/videos/generations/async", FILM, {}),
    ("/api/videos/generate", FILM, {}),
    ("/v1/ingest", {"url": "http://example.com/a"}, {}),
    ("/v1/ingest", {"data": RED}, {}),
]


@pytest.mark.parametrize(("path", "body", "headers"), CREATING)
async def test_who_makes_a_task_is_told_its_id(
    start: Start, path: str, body: dict[str, Any], headers: dict[str, str]
) -> None:
    need("ffmpeg")
    house = await start(real=True)

    async with house.client.post(house.url + path, json=body, headers=headers) as answer:
        text = await answer.text()

    assert answer.status < 300, text
    status, task, shown = await house.ask("GET", f"/v1/tasks/{answer.headers[TASK_HEADER]}")
    assert (status, task["id"]) == (200, shown[TASK_HEADER])


def test_every_route_that_makes_a_task_declares_it() -> None:
    """Those that take an Idempotency-Key and answer with anything but a file."""
    makes = [
        declared
        for owner in OWNERS
        for _, declared in declarations(owner)
        if "Idempotency-Key" in declared.takes and declared.file_field is None
    ]

    assert [declared.path for declared in makes if TASK_HEADER not in declared.gives] == []
    assert {path for path, _, _ in CREATING if not path.startswith("/videos")} <= {made.path for made in makes}
