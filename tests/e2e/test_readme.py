"""The commands of the README, pasted in order: each works, and what it saves is what the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.process import need
from tests.infra.resource import Resource
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE = 200.0


@pytest.mark.timeout(240)
async def test_the_readme_can_be_pasted(tmp_path: Path, source: SourceServer) -> None:
    need("curl", "ffmpeg")
    text = (ROOT / "README.md").read_text()
    pasted = [block for block in COMMANDS.findall(text) if not block.startswith("make ")]
    page = source.add("/", Resource(body=b"<!doctype html><title>Example</title>", media_type="text/html"))
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    mediagen = tmp_path / ".venv" / "bin" / "mediagen"
    mediagen.write_text(f'#!/bin/sh\nexec {sys.executable} -m mediagen "$@"\n')
    mediagen.chmod(0o755)
    async with Server(tmp_path) as server:
        script = "set -eu\n" + "\n".join(pasted)
        script = script.replace("http://127.0.0.1:8080", server.url).replace("https://example.com/", page)

        # it waits for the server, which this process reads from nothing but its log
        done = subprocess.run(
            ["/bin/bash", "-c", script], cwd=tmp_path, env=_clean(), capture_output=True, text=True, timeout=PATIENCE
        )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert len(pasted) > 8
    assert (tmp_path / "fox.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "summer.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "waves.mp4").read_bytes()[4:8] == b"ftyp"
    assert (tmp_path / "hello.mp4").read_bytes()[4:8] == b"ftyp"
    assert (tmp_path / "page.html").read_bytes().startswith(b"<!doctype html>")
    assert "\nevent: " in done.stdout
    assert "whsec_" in done.stdout


async def test_the_program_of_the_readme_shows_events(tmp_path: Path) -> None:
    (program,) = PROGRAM.findall((ROOT / "README.md").read_text())
    async with Server(tmp_path) as server:
        script = tmp_path / "watch.py"
        script.write_text(program.replace("http://127.0.0.1:8080", server.url))
        with subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=_clean()
        ) as watching:
            assert watching.stdout is not None
            first = watching.stdout.readline()
            watching.kill()

    assert first.startswith("snapshot ")


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MEDIAGEN_")}
