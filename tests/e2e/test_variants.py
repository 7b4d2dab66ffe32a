"""Pictures of films and a server that is killed or stopped while it makes one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from tests.e2e import configuration, leavings
from tests.e2e.api import Api
from tests.e2e.waiting import becomes
from tests.infra.process import need
from tests.infra.s3 import Bucket
from tests.infra.servers.mediagen import Server

pytestmark = pytest.mark.e2e


@pytest.fixture
def ffmpeg() -> None:
    need("ffmpeg", "ffprobe", "setpriv")


def decoders(server: Server) -> list[int]:
    """Children of the server that read a film."""
    found = []
    for pid in server.children:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"pipe:0" in words:
            found.append(pid)
    return found


async def asked(server: Server, path: str) -> bool:
    """Whether it was answered with a picture."""
    try:
        async with aiohttp.ClientSession() as session, session.get(server.url + path) as answer:
            return answer.status == 200 and (await answer.read())[:3] == b"\xff\xd8\xff"
    except aiohttp.ClientError:
        return False


@pytest.mark.usefixtures("ffmpeg")
@pytest.mark.parametrize(("backend", "loop", "how"), [("local", "uvloop", "kill"), ("s3", "asyncio", "stop")])
async def test_a_picture_that_was_not_finished_leaves_nothing_and_is_made_once(
    tmp_path: Path, bucket: Bucket, backend: str, loop: str, how: str
) -> None:
    store: dict[str, Any] = {} if backend == "local" else configuration.s3(bucket, serve="stream")
    settings = {"server": {"event_loop": loop, "drain_seconds": 8}, **store}
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        wish = {"prompt": "Waves", "seconds": "4", "size": "320x180", "model": "builtin-clip"}

        async def objects() -> int:
            return len(await bucket.keys() if backend == "s3" else leavings.media(server))

        async def variants() -> list[Any]:
            (film,) = await api.files()
            return cast("dict[str, Any]", film)["variants"]  # type: ignore[no-any-return]

        video: Any = await api.call("POST", "/v1/videos", json=wish)
        await api.completed(video["task_id"])
        path = f"/v1/videos/{video['id']}/content?variant=spritesheet"
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(asked(server, path))
            await becomes(lambda: bool(decoders(server)))
            reading = decoders(server)
            if how == "kill":
                await server.kill9()
            else:
                await server.stop()
        await becomes(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in reading))
        assert not (how == "kill" and asking.result())  # while an orderly stop lets finish what it can

        await server.restart()

        assert await objects() == 1 + len(await variants())
        assert await asked(server, path)
        assert (await objects(), len(await variants())) == (2, 1)
        leavings.no_child(server)
