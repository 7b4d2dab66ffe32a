"""The commands and the program in ``docs/api.md``: each works as it stands, in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.documents import ROOT, at, commands, paste, programs, without_settings
from tests.infra.process import need
from tests.infra.resource import Resource
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

PAGE = (ROOT / "docs" / "api.md").read_text()


async def test_the_commands_can_be_pasted(tmp_path: Path, source: SourceServer) -> None:
    need("curl", "ffmpeg")
    page = source.add("/", Resource(body=b"<!doctype html><title>Example</title>", media_type="text/html"))
    async with Server(tmp_path) as server:
        # it waits for the server, which this process reads from nothing but its log
        shown = paste(commands(PAGE), server, tmp_path, example=page)

    assert len(commands(PAGE)) == PAGE.count("```sh\n") == 5
    assert (tmp_path / "fox.png").read_bytes().startswith(b"\x89PNG")
    assert "\nevent: snapshot" in shown
    assert '"url"' in shown


async def test_the_program_makes_an_image_and_a_video(tmp_path: Path) -> None:
    need("ffmpeg")
    (program,) = programs(PAGE)
    async with Server(tmp_path) as server:
        done = subprocess.run(
            [sys.executable, "-c", at(server, program)],
            cwd=tmp_path,
            env=without_settings(),
            capture_output=True,
            text=True,
            timeout=100,
        )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{server.url}/media/")
    assert (tmp_path / "waves.mp4").read_bytes()[4:8] == b"ftyp"
    assert (tmp_path / "waves.webp").read_bytes()[8:12] == b"WEBP"
