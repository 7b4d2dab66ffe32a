"""The commands of the README, pasted in order: each works, and what it saves is what the README says."""

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

README = (ROOT / "README.md").read_text()


@pytest.mark.timeout(240)
async def test_the_readme_can_be_pasted(tmp_path: Path, source: SourceServer) -> None:
    need("curl", "ffmpeg")
    page = source.add("/", Resource(body=b"<!doctype html><title>Example</title>", media_type="text/html"))
    async with Server(tmp_path, {"data_dir": "data"}) as server:  # relative, as with make serve
        # it waits for the server, which this process reads from nothing but its log
        shown = paste(commands(README), server, tmp_path, example=page)

    assert len(commands(README)) > 8
    assert (tmp_path / "fox.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "summer.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "waves.mp4").read_bytes()[4:8] == b"ftyp"
    assert (tmp_path / "hello.mp4").read_bytes()[4:8] == b"ftyp"
    assert (tmp_path / "page.html").read_bytes().startswith(b"<!doctype html>")
    assert "\nevent: " in shown
    assert "whsec_" in shown


async def test_the_program_of_the_readme_shows_events(tmp_path: Path) -> None:
    (program,) = programs(README)
    async with Server(tmp_path) as server:
        script = tmp_path / "watch.py"
        script.write_text(at(server, program))
        with subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=without_settings()
        ) as watching:
            assert watching.stdout is not None
            first = watching.stdout.readline()
            watching.kill()

    assert first.startswith("snapshot ")
