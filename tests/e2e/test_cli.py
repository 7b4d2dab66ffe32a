"""The command line against the real server."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.api import Api
from tests.infra.resource import Answer, Break, Resource
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Standard output as JSON, a document a line."""
        return [json.loads(line) for line in self.out.splitlines()]


async def mediagen(server: Server, *words: str) -> Said:
    """Run a command of the client."""
    argv = [sys.executable, "-m", "mediagen", *words, "--server", server.url]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe, cwd=server.folder)
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Said(process.returncode or 0, out.decode(), err.decode())


async def test_ingest_and_wait(tmp_path: Path, source: SourceServer) -> None:
    good = source.add("/film", Resource(size=3 * MIB, filename="film.bin"))
    bad = source.add("/gone", Resource(always=Answer(404)))
    async with Server(tmp_path) as server, Api(server.url) as api:
        said = await mediagen(server, "ingest", good, "--wait")
        (file,) = await api.files()
        assert said.status == 0
        *words, url = said.out.split()
        assert words == ["film.bin", "3.0", "MiB", "application/octet-stream"]
        assert url.partition("?")[0] == file["url"].partition("?")[0]  # it is signed anew at each look
        assert "completed" in said.err

        said = await mediagen(server, "ingest", good, "--wait", "--json", "--filename", "b.bin")
        assert said.status == 0
        assert [document["status"] for document in said.documents][-1] == "completed"
        assert said.documents[-1]["result"]["file"]["filename"] == "b.bin"

        said = await mediagen(server, "ingest", good)
        assert said.status == 0
        assert (await api.completed(said.out.strip()))["bytes"] == 3 * MIB

        said = await mediagen(server, "ingest", bad, "--wait")
        assert (said.status, said.out) == (1, "")
        assert "404" in said.err

        said = await mediagen(server, "ingest", "file:///etc/passwd", "--wait")
        assert (said.status, said.out) == (2, "")
        assert "url_not_allowed" in said.err

        await server.stop()
        said = await mediagen(server, "ingest", good, "--wait")
        assert (said.status, said.out) == (2, "")
        assert "is it running?" in said.err


async def test_listing_cancelling_retrying_watching(tmp_path: Path, source: SourceServer) -> None:
    url = source.add("/film", Resource(size=3 * MIB, ranges="no", breaks=[Break(after=2 * MIB, how="stall", times=1)]))
    async with Server(tmp_path) as server, Api(server.url) as api:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(mediagen(server, "ingest", url, "--wait"))
            await source.log.reaches(lambda _: source.sent("/film") == 2 * MIB)
            (task,) = await api.tasks()

            said = await mediagen(server, "tasks", "ls", "--status", "running")
            assert (said.status, said.out.count("\n")) == (0, 1)
            assert task["id"] in said.out

            said = await mediagen(server, "tasks", "cancel", task["id"])
            assert said.status == 0
            assert "cancelled" in said.out
        assert waiting.result().status == 3
        assert "cancelled" in waiting.result().err

        said = await mediagen(server, "tasks", "retry", task["id"], "--json")
        assert (said.status, said.documents[0]["ok"]) == (0, True)
        said = await mediagen(server, "tasks", "watch", task["id"])
        assert said.status == 0
        assert (await api.files())[0]["url"].partition("?")[0] in said.out  # it is signed anew at each look

        said = await mediagen(server, "tasks", "ls", "--json")
        assert [(one["id"], one["status"], one["attempt"]) for one in said.documents] == [(task["id"], "completed", 2)]
        said = await mediagen(server, "tasks", "cancel", task["id"], "task_" + "0" * 32)
        assert said.status == 1
        assert "conflict" in said.err
        assert "not_found" in said.err
        said = await mediagen(server, "tasks", "watch", "task_" + "0" * 32)
        assert said.status == 2
        assert "not_found" in said.err


async def test_a_watcher_stays_over_a_crash_of_the_server(tmp_path: Path, source: SourceServer) -> None:
    url = source.add("/film", Resource(size=3 * MIB, ranges="no", breaks=[Break(after=2 * MIB, how="stall", times=1)]))
    async with Server(tmp_path) as server, asyncio.TaskGroup() as group:
        waiting = group.create_task(mediagen(server, "ingest", url, "--wait"))
        await source.log.reaches(lambda _: source.sent("/film") == 2 * MIB)
        await server.kill9()
        await server.restart()
        said = await waiting

        assert said.status == 0
        assert said.out.startswith("film")


async def test_a_markdown_script_becomes_a_film_on_disk(tmp_path: Path) -> None:
    async with Server(tmp_path) as server:
        script = server.folder / "script.md"
        await asyncio.to_thread(script.write_text, "# Hello\n\nThis film was made from a script.\n")

        plan = await mediagen(server, "compose", "script.md", "--plan", "--json")
        said = await mediagen(server, "compose", "script.md", "-o", "film.mp4")
        missing = await mediagen(server, "compose", "none.md", "-o", "none.mp4")

        film = await asyncio.to_thread((server.folder / "film.mp4").read_bytes)

    assert (plan.status, plan.documents[0]["scenes"][0]["index"]) == (0, 0)
    assert said.status == 0, said.err
    assert film[4:8] == b"ftyp"
    assert "warning: the embedded voice is a draft voice" in said.err
    assert (missing.status, missing.err) == (2, "mediagen: none.md: No such file or directory\n")
